//! Character devices whose paths a pattern stands for: `*` is any number of
//! characters of a name, `?` is one.

use std::path::Path;

use super::{char_device, names};

/// How many names a pattern may have: an admin's `/dev/*/*/*/*` ends somewhere.
const MAX_FOUND: usize = 4096;

/// Every character device of the pattern below a directory.
pub(super) fn find(dir: &Path, pattern: &str) -> Vec<(String, u64)> {
    let mut found = vec![];
    walk(dir, "", pattern, &mut found);
    found
}

fn walk(dir: &Path, before: &str, pattern: &str, found: &mut Vec<(String, u64)>) {
    let (part, rest) = match pattern.split_once('/') {
        Some((part, rest)) => (part, Some(rest)),
        None => (pattern, None),
    };
    let all = if is_pattern(part) {
        names(dir)
    } else {
        vec![part.to_owned()]
    };
    for name in all.into_iter().filter(|name| part_matches(part, name)) {
        let path = dir.join(&name);
        let relative = format!("{before}{name}");
        match rest {
            Some(rest) if path.is_dir() => walk(&path, &format!("{relative}/"), rest, found),
            Some(_) => {}
            None => {
                if found.len() < MAX_FOUND
                    && let Some(rdev) = char_device(&path)
                {
                    found.push((relative, rdev));
                }
            }
        }
    }
}

pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let (patterns, parts) = (pattern.split('/'), path.split('/'));
    patterns.clone().count() == parts.clone().count()
        && patterns
            .zip(parts)
            .all(|(pattern, part)| part_matches(pattern, part))
}

pub(super) fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?'])
}

/// As a shell does it: a hidden name is not meant by a star.
fn part_matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star did not fit.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    p = after;
                    n = from + 1;
                    retry = Some((after, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, path, is) in [
            ("fuse", "fuse", true),
            ("fuse", "fuse2", false),
            ("tty*", "ttyUSB0", true),
            ("tty*", "pts/0", false),
            ("tty*", "tty/0", false),
            ("*", ".hidden", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*a", "aaa", true),
            ("??", "ab", true),
            ("??", "a", false),
            ("serial/by-id/*", "serial/by-id/usb-1", true),
            ("*/by-id/?*", "serial/by-id/x", true),
        ] {
            assert_eq!(matches(pattern, path), is, "{pattern} {path}");
        }
    }
}
