//! What the names of sources mean, and that nothing in them can panic.

use proptest::prelude::*;

use super::*;

fn shown(text: &str) -> String {
    match Source::parse(text) {
        Ok(source) => source.to_string(),
        Err(error) => format!("refused: {error}"),
    }
}

#[test]
fn each_kind_of_source_is_recognized() {
    for (text, expected) in [
        ("-", "standard input"),
        ("disk.qcow2", "disk.qcow2"),
        ("/dev/coracle/root", "/dev/coracle/root"),
        ("file:///srv/a.img", "/srv/a.img"),
        (
            "https://example.org:8443/a.img",
            "https://example.org:8443/a.img",
        ),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("https://example.org", "https://example.org/"),
        (
            "docker://alpine",
            "registry-1.docker.io/library/alpine:latest",
        ),
        (
            "docker://u/vm:1#disk/a.img",
            "registry-1.docker.io/u/vm:1#disk/a.img",
        ),
        (
            "oci://127.0.0.1:5000/a/b:c#/disk/x",
            "127.0.0.1:5000/a/b:c#disk/x",
        ),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
    let digest = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(
        shown(&format!("oci://r.io/a:1@{digest}")),
        format!("r.io/a@{digest}")
    );
}

#[test]
fn what_is_wrong_is_said() {
    for text in [
        "",
        "ftp://example.org/a",
        "http://",
        "http://exa mple/a",
        "http://example.org:99999/a",
        "https://example.org/ä",
        "docker://",
        "docker://r.io/UPPER",
        "docker://r.io/a@sha256:12",
        "docker://r.io/a#../etc/passwd",
        "docker://r.io/a:-x",
        "a\nb",
    ] {
        assert!(shown(text).starts_with("refused: "), "{text}");
    }
}

#[test]
fn credentials_and_signatures_are_never_shown() {
    for text in [
        "https://user:secret@example.org/a.img?sig=secret",
        "http://user:secret@exa mple/a",
        "ftp://user:secret@example.org/?secret",
    ] {
        assert!(!shown(text).contains("secret"), "{}", shown(text));
        assert!(!format!("{:?}", Source::parse(text).ok()).contains("secret"));
    }
}

#[test]
fn a_checksum_is_sha256_and_64_digits() {
    let digits = "0123456789abcdef".repeat(4);
    assert_eq!(
        checksum(&format!("sha256:{}", digits.to_uppercase())).unwrap(),
        digits
    );
    for bad in ["", "md5:00", &digits, "sha256:00", "sha256:zz"] {
        assert!(checksum(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = Source::parse(&text);
    }

    #[test]
    fn no_reference_or_url_panics(scheme in "http|https|docker|oci|file", rest in "[a-z0-9:/@#?.\\[\\]_-]{0,80}") {
        let text = format!("{scheme}://{rest}");
        if let Ok(source) = Source::parse(&text) {
            prop_assert!(!source.to_string().is_empty());
        }
    }
}
