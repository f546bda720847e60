//! What was probably meant: the closest of the known words.

/// What other tools call things that have another name here.
const SYNONYMS: [(&str, &str); 8] = [
    ("read", "Get"),
    ("write", "Put"),
    ("create", "Put"),
    ("stat", "Head"),
    ("ls", "List"),
    ("readdir", "List"),
    ("rm", "Delete"),
    ("remove", "Delete"),
];

/// The word closest to `wrong`, if any is close enough to be worth asking about.
#[must_use]
pub fn closest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody misspells by more than a word; and the distance is quadratic.
    if wrong.len() > 64 {
        return None;
    }
    let meant = SYNONYMS.iter().find(|(other, _)| other.eq_ignore_ascii_case(wrong)).map(|(_, word)| *word);
    let wrong = plain(wrong);
    known
        .map(|word| (if meant == Some(word) { 0 } else { distance(&wrong, &plain(word)) }, word))
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
    fn words_of_other_tools_are_understood() {
        let known = ["Get", "Put", "Head", "List", "Delete"];
        assert_eq!(closest("Read", known.into_iter()), Some("Get"));
        assert_eq!(closest("rm", known.into_iter()), Some("Delete"));
    }

    #[test]
    fn close_words_are_found_and_far_ones_are_not() {
        let known = ["readyTimeout", "delay", "replicas", "stages"];
        for (wrong, want) in [
            ("ready_timeout", Some("readyTimeout")),
            ("replica", Some("replicas")),
            ("stagse", Some("stages")),
            ("dely", Some("delay")),
            ("banana", None),
            ("read", None),
            ("", None),
        ] {
            assert_eq!(closest(wrong, known.into_iter()), want, "{wrong}");
        }
    }
}
