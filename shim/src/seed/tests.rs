//! Reads seeds back, with the library that wrote them and with the tools that
//! a guest has.

use std::io::Read as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;

const USER_DATA: &[u8] = b"#cloud-config\nhostname: other\n";

fn seed() -> Seed<'static> {
    Seed {
        instance_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        local_hostname: "web",
        user_data: USER_DATA,
        network_config: None,
    }
}

fn read_back(image: Vec<u8>) -> (String, Vec<(String, Vec<u8>)>) {
    let volume = FileSystem::new(Cursor::new(image), FsOptions::new()).expect("a FAT volume");
    let label = volume
        .read_volume_label_from_root_dir()
        .expect("readable")
        .expect("a label");
    let read = |entry: io::Result<fatfs::DirEntry<'_, _>>| {
        let entry = entry.expect("an entry");
        let mut data = Vec::new();
        entry.to_file().read_to_end(&mut data).expect("readable");
        (entry.file_name(), data)
    };
    let files = volume.root_dir().iter().map(read).collect();
    (label, files)
}

#[test]
fn it_holds_the_three_files_under_the_label_that_cloud_init_looks_for() {
    let seed = Seed {
        network_config: Some(b"version: 2\n"),
        ..seed()
    };
    let (label, files) = read_back(seed.image().expect("an image"));
    assert_eq!(label, "CIDATA");
    let meta_data = "instance-id: \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"\n\
                     local-hostname: \"web\"\n";
    assert_eq!(
        files,
        [
            ("meta-data".to_owned(), meta_data.as_bytes().to_vec()),
            ("user-data".to_owned(), USER_DATA.to_vec()),
            ("network-config".to_owned(), b"version: 2\n".to_vec()),
        ]
    );
}

#[test]
fn without_network_data_there_is_no_network_config() {
    let (_, files) = read_back(seed().image().expect("an image"));
    assert_eq!(files.len(), 2);
}

#[test]
fn the_same_contents_make_the_same_bytes_and_a_small_image() {
    let image = seed().image().expect("an image");
    assert_eq!(image, seed().image().expect("an image"));
    assert!(image.len() <= OVERHEAD + STEP, "{} bytes", image.len());
}

#[test]
fn the_largest_seed_fits_and_one_byte_more_is_refused() {
    let largest = vec![b'x'; usize::try_from(DATA_MAX).expect("fits")];
    let seed = Seed {
        user_data: &largest,
        network_config: Some(&largest),
        ..seed()
    };
    let (_, files) = read_back(seed.image().expect("an image"));
    assert_eq!(files[1].1.len(), largest.len());
    let larger = [&largest[..], b"x"].concat();
    for (file, seed) in [
        (
            "user-data",
            Seed {
                user_data: &larger,
                ..seed
            },
        ),
        (
            "network-config",
            Seed {
                network_config: Some(&larger),
                ..seed
            },
        ),
    ] {
        let error = seed.image().expect_err("too large");
        assert!(
            matches!(error, SeedError::TooLarge { file: named } if named == file),
            "{error}"
        );
    }
}

#[test]
fn the_image_is_private_and_replaces_what_was_there() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (path, other) = (dir.path().join("seed.img"), dir.path().join("other"));
    std::fs::write(&other, b"not yours").expect("a file");
    std::os::unix::fs::symlink(&other, &path).expect("a link");
    seed().write(&path).expect("written");
    assert_eq!(std::fs::read(&other).expect("still there"), b"not yours");
    let metadata = std::fs::symlink_metadata(&path).expect("there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::read(&path).expect("readable"),
        seed().image().expect("an image")
    );
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = seed()
        .write(Path::new("/nonexistent/seed.img"))
        .expect_err("no directory");
    assert!(matches!(error, SeedError::Write { .. }));
    assert!(error.to_string().contains("/nonexistent/seed.img"));
}

/// What udev in the guest, and so cloud-init, goes by.
#[test]
fn blkid_sees_the_label() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    seed().write(file.path()).expect("written");
    match Command::new("blkid")
        .args(["-p", "-o", "export"])
        .arg(file.path())
        .output()
    {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            for line in ["LABEL=CIDATA", "LABEL_FATBOOT=CIDATA", "TYPE=vfat"] {
                assert!(text.lines().any(|seen| seen == line), "no {line} in {text}");
            }
        }
        Err(error) => eprintln!("skipped: blkid cannot be run: {error}"),
    }
}

/// The file system check of the guest finds nothing to mend.
#[test]
fn fsck_is_content() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    Seed {
        network_config: Some(b"version: 2\n"),
        ..seed()
    }
    .write(file.path())
    .expect("written");
    match Command::new("fsck.vfat")
        .arg("-n")
        .arg(file.path())
        .output()
    {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => eprintln!("skipped: fsck.vfat cannot be run: {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_contents_come_back(
        user_data in proptest::collection::vec(any::<u8>(), 0..200_000),
        network in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..2000)),
    ) {
        let seed =
            Seed { user_data: &user_data, network_config: network.as_deref(), ..seed() };
        let (_, files) = read_back(seed.image().expect("an image"));
        prop_assert_eq!(&files[1].1, &user_data);
        prop_assert_eq!(files.get(2).map(|file| &file.1), network.as_ref());
    }
}
