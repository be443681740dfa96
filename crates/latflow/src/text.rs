//! Words for people: the known name nearest to a slip of the keyboard.

/// The known name closest to what was typed, when it is close enough to be a slip.
pub(crate) fn closest<'a>(typed: &str, known: &'a [String]) -> Option<&'a str> {
    let best = known.iter().min_by_key(|name| edit_distance(typed, name))?;
    (edit_distance(typed, best) <= 1 + typed.len().max(best.len()) / 4).then_some(best)
}

/// Insertions, deletions and replacements between two words.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known: Vec<String> = ["lambda", "fermion_mass", "g", "m2"].map(str::to_owned).to_vec();
        assert_eq!(closest("lamda", &known), Some("lambda"));
        assert_eq!(closest("fermion_mas", &known), Some("fermion_mass"));
        assert_eq!(closest("temperature", &known), None);
    }
}
