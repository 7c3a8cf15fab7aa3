//! Whatever the input, there is an answer.

use proptest::prelude::*;

use super::*;

/// The good manifests with some characters replaced, or anything at all.
fn text() -> impl Strategy<Value = String> {
    let good = format!("{VM}---\n{CLAIM}");
    let length = good.len();
    let snippet = prop_oneof![
        proptest::string::string_regex("[-:{}\\[\\],&*!|>'\"%@`#?~\n\t ]{0,3}").expect("regex"),
        proptest::string::string_regex("\\PC{0,3}").expect("regex"),
        Just("<<: *a".to_owned()),
        Just("&a ".to_owned()),
        Just("---".to_owned()),
    ];
    let edits = proptest::collection::vec((0..length, 0_usize..8, snippet), 1..6);
    let edited = edits.prop_map(move |edits| {
        let mut text: Vec<char> = good.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        text.into_iter().collect()
    });
    prop_oneof![4 => edited, 1 => any::<String>()]
}

proptest! {
    #[test]
    fn every_input_is_read_or_refused_with_a_place(text in text()) {
        match parse(&[("vm.yaml", &text)]) {
            Ok(read) => prop_assert!(read.vm.metadata.name.is_some()),
            Err(ManifestError::Invalid { problems }) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(!problem.message.is_empty());
                    let lines = text.lines().count() + 2;
                    prop_assert!(problem.at.is_none_or(|at| (1..=lines).contains(&at.line)));
                }
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
