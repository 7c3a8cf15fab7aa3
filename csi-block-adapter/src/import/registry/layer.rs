//! A file in a layer's tar archive, read as it comes by.

use std::{
    io::{self, Read},
    path::{Component, Path},
};

use tar::{Archive, EntryType};

/// Where disks are in a container image by custom.
const DISKS: &str = "disk";

/// What a layer says of a file.
pub(crate) enum LayerFile<T> {
    /// It is here, and was taken.
    Taken(T),
    /// It was removed in this layer: lower ones do not count.
    Removed,
    /// It is not here.
    Absent,
}

/// Finds a file, or without a name the first one below `/disk/`, and hands it
/// to `take` with its size.
pub(crate) fn find_in_layer<T, E: From<io::Error>>(
    layer: &mut dyn Read,
    path: Option<&str>,
    take: impl FnOnce(&mut dyn Read, u64) -> Result<T, E>,
) -> Result<LayerFile<T>, E> {
    let mut archive = Archive::new(layer);
    let mut removed = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some(name) = clean(&entry.path()?) else {
            continue;
        };
        let file = matches!(
            entry.header().entry_type(),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse
        );
        let wanted = match path {
            Some(path) => name == path,
            None => name.strip_prefix(DISKS).is_some_and(|rest| {
                rest.strip_prefix('/')
                    .is_some_and(|rest| !rest.contains('/') && !rest.starts_with(".wh."))
            }),
        };
        if wanted && file {
            let size = entry.size();
            return take(&mut entry, size).map(LayerFile::Taken);
        }
        removed |= path.is_some_and(|path| removes(&name, path));
    }
    Ok(if removed {
        LayerFile::Removed
    } else {
        LayerFile::Absent
    })
}

/// A path without its leading `./` or `/`; none when it leads elsewhere.
fn clean(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// Whether a whiteout (image specification, layer.md) hides `path`.
fn removes(name: &str, path: &str) -> bool {
    let (directory, file) = name.rsplit_once('/').unwrap_or(("", name));
    let below = |parent: &str| {
        parent.is_empty()
            || path
                .strip_prefix(parent)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    match file.strip_prefix(".wh.") {
        Some(".wh..opq") => below(directory),
        Some(hidden) => {
            let hidden = [directory, hidden].join("/");
            let hidden = hidden.trim_start_matches('/');
            path == hidden || below(hidden)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_hide_a_file_and_what_is_below_a_directory() {
        assert!(removes("disk/.wh.a.img", "disk/a.img"));
        assert!(removes(".wh.disk", "disk/a.img"));
        assert!(removes("disk/.wh..wh..opq", "disk/a.img"));
        assert!(!removes("disk/.wh.b.img", "disk/a.img"));
        assert!(!removes("disk/a.img", "disk/a.img"));
        assert_eq!(clean(Path::new("./disk/a")).unwrap(), "disk/a");
        assert!(clean(Path::new("../disk/a")).is_none());
    }
}
