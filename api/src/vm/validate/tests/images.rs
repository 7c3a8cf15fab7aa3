//! Disks in container images.

use serde_json::json;

use super::*;

/// The problems of a VM whose disk is in this image, and has these fields.
fn in_image(image: &Value, fields: &Value) -> Vec<(String, String)> {
    let mut object = good();
    let mut disk = json!({"name": "root", "image": image});
    let fields = fields.as_object().expect("an object").clone();
    disk.as_object_mut().expect("an object").extend(fields);
    object["spec"]["disks"] = json!([disk]);
    problems(object)
}

#[test]
fn a_disk_in_an_image_is_read_or_has_an_overlay() {
    let plain = json!({"reference": "a.example/vm:1"});
    let sized = json!({"reference": "a", "path": "disk/a", "pullPolicy": "Always", "size": "4Gi"});
    for (image, fields) in [
        (&plain, json!({})),
        (&plain, json!({"readOnly": true})),
        (&plain, json!({"type": "Cdrom", "bus": "Sata"})),
        (&sized, json!({"cache": "Writeback"})),
    ] {
        assert_eq!(in_image(image, &fields), vec![]);
    }
    let size = "image.size is for a disk";
    for (image, fields, path, why) in [
        (&plain, json!({"claim": {"name": "a"}}), "", "exactly one"),
        (&plain, json!({"shareable": true}), ".shareable", "a claim"),
        (
            &plain,
            json!({"type": "Lun", "bus": "Scsi"}),
            ".type",
            "a claim",
        ),
        (&sized, json!({"readOnly": true}), ".image", size),
        (
            &sized,
            json!({"type": "Cdrom", "bus": "Scsi"}),
            ".image",
            size,
        ),
    ] {
        let found = in_image(image, &fields);
        let path = format!("spec.disks[0]{path}");
        let said = found.iter().any(|(p, m)| *p == path && m.contains(why));
        assert!(said, "{found:?}");
    }
    for (image, field) in [
        (json!({"reference": "A"}), "reference"),
        (json!({"reference": "a", "path": "/a"}), "path"),
        (json!({"reference": "a", "size": "1G"}), "size"),
    ] {
        let found = in_image(&image, &json!({}));
        assert_eq!(found[0].0, format!("spec.disks[0].image.{field}"));
    }
}
