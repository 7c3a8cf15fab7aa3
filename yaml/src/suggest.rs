//! "Did you mean": the known word that is most likely meant.

/// The words in quotes, with commas.
#[must_use]
pub fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words
        .into_iter()
        .map(|word| format!("{word:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `: did you mean "bootOrder"?`, or nothing when no word is near.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!(": did you mean {near:?}?"))
}

/// One slip is allowed for every three letters, and one at least; `cloud_init`
/// for `cloudInit` is none at all.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['_', '-'], "");
    let wanted = plain(word);
    let allowed = (wanted.chars().count() / 3).max(1);
    let near = known.into_iter().map(|word| {
        let distance = strsim::osa_distance(&wanted, &plain(word));
        (distance, word)
    });
    near.filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_and_other_spellings_are_recognized() {
        let known = ["bootOrder", "bus", "cloudInit", "name", "readOnly"];
        for (word, meant) in [
            ("bootorder", Some("bootOrder")),
            ("boot_order", Some("bootOrder")),
            ("bootOdrer", Some("bootOrder")),
            ("cloud-init", Some("cloudInit")),
            ("nane", Some("name")),
            ("buss", Some("bus")),
            ("flavour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
