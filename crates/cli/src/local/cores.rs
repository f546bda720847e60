//! Which cores each agent gets: the ones that this process may use, split so that no two agents share one where there
//! are enough.

/// The cores that this process may use, ascending; never empty.
#[must_use]
pub fn allowed() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    let cores: Vec<usize> = set
        .map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
        .unwrap_or_default();
    if !cores.is_empty() {
        return cores;
    }
    (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).collect()
}

/// How many of them may be busy at once: a cgroup may allow fewer than there are.
#[must_use]
pub fn busy_at_once(allowed: &[usize]) -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(allowed.len()).max(1)
}

/// The cores of agent `index` of `agents`: a run of neighbours, or one shared core where agents outnumber cores.
#[must_use]
pub fn of_agent(allowed: &[usize], agents: u32, index: u32) -> &[usize] {
    let (cores, agents, index) = (allowed.len(), agents.max(1) as usize, index as usize);
    if agents > cores {
        let core = index % cores.max(1);
        return allowed.get(core..=core).unwrap_or(allowed);
    }
    allowed.get(index * cores / agents..(index + 1) * cores / agents).unwrap_or(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_split_without_overlap() {
        let cores = [0, 1, 2, 5, 6];
        assert_eq!([of_agent(&cores, 2, 0), of_agent(&cores, 2, 1)], [&[0, 1][..], &[2, 5, 6]]);
        assert_eq!(of_agent(&cores, 1, 0), cores);
        let all: Vec<usize> = (0..3).flat_map(|index| of_agent(&cores, 3, index).to_vec()).collect();
        assert_eq!(all, cores);
    }

    #[test]
    fn more_agents_than_cores_share_them() {
        let given: Vec<&[usize]> = (0..5).map(|index| of_agent(&[3, 4], 5, index)).collect();
        assert_eq!(given, [[3], [4], [3], [4], [3]]);
    }

    #[test]
    fn this_process_may_use_some_core() {
        let allowed = allowed();
        assert!(!allowed.is_empty() && (1..=allowed.len()).contains(&busy_at_once(&allowed)));
    }
}
