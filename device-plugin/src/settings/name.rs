//! Which names Kubernetes takes for an extended resource
//! (`v1helper.IsExtendedResourceName`, and `IsQualifiedName` for its parts).

/// Longest name after the slash.
const NAME_MAX: usize = 63;
/// Longest domain: quotas put `requests.` in front of it, and the whole is a
/// DNS subdomain of 253 characters.
const DOMAIN_MAX: usize = 253 - "requests.".len();

/// Why a name is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error("{name:?} has no domain: write it as example.com/{name}")]
    NoDomain { name: String },
    #[error("{name:?} is in the domain kubernetes.io, which is Kubernetes' own: use one of yours")]
    Reserved { name: String },
    #[error("{name:?} begins with \"requests.\", which is for quotas: use another domain")]
    Requests { name: String },
    #[error(
        "{domain:?} is no domain: at most {DOMAIN_MAX} lower-case letters, digits, \"-\" and \".\", \
         each part with a letter or digit at both ends"
    )]
    Domain { domain: String },
    #[error(
        "{name:?} is no name: at most {NAME_MAX} letters, digits, \"-\", \"_\" and \".\", with a \
         letter or digit at both ends"
    )]
    Name { name: String },
}

/// Whether Kubernetes takes the name.
pub(super) fn check(resource: &str) -> Result<(), NameError> {
    let whole = || resource.to_owned();
    let Some((domain, name)) = resource.split_once('/') else {
        return Err(NameError::NoDomain { name: whole() });
    };
    if resource.contains("kubernetes.io/") {
        return Err(NameError::Reserved { name: whole() });
    }
    if domain.starts_with("requests.") {
        return Err(NameError::Requests { name: whole() });
    }
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| framed(label, lower, b"-");
    if domain.len() > DOMAIN_MAX || !domain.split('.').all(label) {
        let domain = domain.to_owned();
        return Err(NameError::Domain { domain });
    }
    if name.len() > NAME_MAX || !framed(name, |byte| byte.is_ascii_alphanumeric(), b"-_.") {
        let name = name.to_owned();
        return Err(NameError::Name { name });
    }
    Ok(())
}

/// Whether a text is of `plain` characters, with `others` between them.
fn framed(text: &str, plain: impl Fn(u8) -> bool, others: &[u8]) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.into_iter().all(|end| end.is_some_and(&plain))
        && text
            .bytes()
            .all(|byte| plain(byte) || others.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        let longest = format!("{}/{}", ["a"; 122].join("."), "N".repeat(63));
        for good in [
            "example.com/a10",
            "a/b",
            "coracle.dev/GPU_1.x-y",
            "1/2",
            &longest,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, part) in [
            ("a10", "write it as example.com/a10"),
            ("", "no domain"),
            ("kubernetes.io/x", "Kubernetes' own"),
            ("node.kubernetes.io/x", "Kubernetes' own"),
            ("requests.example.com/x", "for quotas"),
            ("Example.com/x", "no domain"),
            ("example..com/x", "no domain"),
            ("-example.com/x", "no domain"),
            ("/x", "no domain"),
            ("exam_ple.com/x", "no domain"),
            ("example.com/", "no name"),
            ("example.com/a/b", "no name"),
            ("example.com/-a", "no name"),
            ("example.com/a b", "no name"),
            ("example.com/é", "no name"),
        ] {
            let error = check(bad).expect_err(bad).to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
        assert!(check(&format!("a/{}", "n".repeat(64))).is_err());
        assert!(check(&format!("{}/n", "d".repeat(245))).is_err());
    }
}
