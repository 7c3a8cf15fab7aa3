//! Manifests from flags.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: CreateArgs,
}

fn args(line: &str) -> CreateArgs {
    let line = ["create", "--name", "web"]
        .into_iter()
        .chain(line.split_whitespace());
    Line::try_parse_from(line).expect("it parses").args
}

fn made(line: &str) -> String {
    yaml(&manifest(&args(line), None).expect("a manifest"))
}

#[test]
fn a_vm_of_few_words() {
    insta::assert_snapshot!(made("--memory 2Gi --disk root=claim:web-root"));
}

#[test]
fn a_vm_with_everything() {
    let line = "--cpus 4 --memory 8Gi --accelerator emulation --run-policy onfailure \
                --disk root=claim:web-root,bus=Scsi,bootOrder=1,readOnly=true \
                --disk base=image:a.example:5000/vm:1,readOnly=true \
                --disk scratch=ephemeral:10Gi --disk seed=secret:web-seed \
                --kernel boot:vmlinuz --initrd initrd.img --cmdline console=ttyS0 \
                --interface default";
    insta::assert_snapshot!(made(line));
}

#[test]
fn what_the_api_server_would_refuse_is_refused_in_its_words() {
    for (line, said) in [
        ("--memory 2G --disk root=claim:r", "spec.memory"),
        ("--memory 2Gi", "nothing to boot from"),
        (
            "--memory 2Gi --disk root=claim:r,buss=Scsi",
            "unknown field \"spec.disks[0].buss\"",
        ),
        (
            "--memory 2Gi --disk root=claim:r --accelerator tcg",
            "supported values: \"Kvm\"",
        ),
    ] {
        let refused = manifest(&args(line), None).expect_err(line).to_string();
        assert!(refused.contains(said), "{line}: {refused}");
    }
}

#[test]
fn a_disk_without_a_source_says_which_there_are() {
    for text in ["root", "root=web-root", "root=nfs:x", "root=claim:a,bus"] {
        let wrong = text.parse::<DiskArg>().expect_err(text);
        assert!(wrong.contains("write"), "{wrong}");
    }
}
