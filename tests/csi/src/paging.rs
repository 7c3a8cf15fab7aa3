//! Lists in pages. A token is the last identifier of the page before, so
//! what is made or deleted between two pages is neither shown twice nor
//! stands in the way.

use crate::error::CsiError;
use crate::shelf::is_id;

/// The page of `all` (sorted by identifier) after the token, and the token of
/// the next one, empty on the last.
pub(crate) fn page<T>(
    all: Vec<(String, T)>,
    token: &str,
    max_entries: i32,
) -> Result<(Vec<(String, T)>, String), CsiError> {
    if !token.is_empty() && !is_id(token) {
        return Err(CsiError::Token {
            token: token.to_owned(),
        });
    }
    let mut rest: Vec<_> = all
        .into_iter()
        .filter(|(id, _)| id.as_str() > token)
        .collect();
    let most = usize::try_from(max_entries).map_err(|_| CsiError::Unsupported {
        what: "a negative number of entries".to_owned(),
    })?;
    if most == 0 || rest.len() <= most {
        return Ok((rest, String::new()));
    }
    rest.truncate(most);
    let next = rest.last().map(|(id, _)| id.clone()).unwrap_or_default();
    Ok((rest, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::id;

    #[test]
    fn every_entry_is_on_one_page_even_when_others_go() {
        let mut all: Vec<_> = (0..5).map(|n| (id(&format!("volume {n}")), n)).collect();
        all.sort();
        let (first, next) = page(all.clone(), "", 2).expect("no token");
        assert_eq!(first, all[..2]);
        // The last of the page before is deleted.
        all.remove(1);
        let (second, next) = page(all.clone(), &next, 2).expect("it was given out");
        assert_eq!(second, all[1..3]);
        let (last, next) = page(all.clone(), &next, 2).expect("it was given out");
        assert_eq!((last, next.as_str()), (all[3..].to_vec(), ""));
        assert!(page(all, "nonsense", 2).is_err());
    }
}
