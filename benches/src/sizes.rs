//! Sizes of the programs that pods run and of the images.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::stats::Results;

/// The images, and how large each may be at most.
const IMAGES: [(&str, &str); 3] = [("vm", "≤ 40"), ("device-plugin", "≤ 5"), ("pause", "-")];

pub(crate) fn measure(
    programs: &Path,
    images: Option<&Path>,
    results: &mut Results,
) -> anyhow::Result<()> {
    for program in ["coracle-shim", "coracle-device-plugin"] {
        let size = mib(&programs.join(program))?;
        results.figure(format!("{program}, program"), "MiB", vec![size], None);
    }
    for (image, goal) in IMAGES {
        let Some(dir) = images else { continue };
        // The archive is a tar of compressed layers: what a node pulls.
        let size = mib(&dir.join(format!("{image}.tar")))?;
        results.figure(
            format!("image {image}, compressed"),
            "MiB",
            vec![size],
            Some(goal),
        );
    }
    Ok(())
}

fn mib(path: &Path) -> anyhow::Result<f64> {
    let size = fs::metadata(path)
        .with_context(|| format!("looking at {}", path.display()))?
        .len();
    Ok(f64::from(u32::try_from(size / 1024)?) / 1024.0)
}
