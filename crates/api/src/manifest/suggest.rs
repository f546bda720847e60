//! What was probably meant: the closest of the known words.

/// The word closest to `wrong`, if any is close enough to be worth asking about.
#[must_use]
pub fn closest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody misspells by more than a word; and the distance is quadratic.
    if wrong.len() > 64 {
        return None;
    }
    let wrong = plain(wrong);
    known
        .map(|word| (distance(&wrong, &plain(word)), word))
        .filter(|(distance, word)| *distance <= word.len().div_ceil(3).clamp(1, 3))
        .min()
        .map(|(_, word)| word)
}

/// Without case and separators, so that `ready_timeout` and `readytimeout` mean `readyTimeout`.
fn plain(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Levenshtein's distance.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substitution = diagonal + usize::from(l != r);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_words_are_found_and_far_ones_are_not() {
        let known = ["readyTimeout", "delay", "replicas", "stages"];
        for (wrong, want) in [
            ("ready_timeout", Some("readyTimeout")),
            ("replica", Some("replicas")),
            ("stagse", Some("stages")),
            ("dely", Some("delay")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(closest(wrong, known.into_iter()), want, "{wrong}");
        }
    }
}
