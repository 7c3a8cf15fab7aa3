//! What is left of a node on the machine. Everything here is attributed to the
//! node, by its directory's name or by what its reports say, so that tests
//! and whatever else runs beside it do not count.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Node;

/// Where the pod network keeps its leases.
const LEASES: &str = "/run/coracle/ipam/coracle";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Everything that is left, each as a line for a person.
pub(super) fn all(node: &Node) -> Vec<String> {
    let mark = node.mark();
    let mut left = Vec::new();
    for process in node.processes() {
        left.push(format!(
            "process {}: {}",
            process.pid,
            process.arguments.join(" ")
        ));
    }
    left.extend(mounts(&mark).iter().map(|mount| format!("mount {mount}")));
    left.extend(loop_devices(node, &mark));
    left.extend(entries(&node.state().join("pods")).map(|pod| format!("record {}", pod.display())));
    for run in reports(node) {
        left.extend(of_run(&run));
    }
    left
}

/// Mount points below the mark or of something below it, in the order in
/// which they were made.
pub(super) fn mounts(mark: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let lines = text.lines().filter(|line| line.contains(mark));
    lines
        .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
        .collect()
}

fn loop_devices(node: &Node, mark: &str) -> Vec<String> {
    let known = node.disks.borrow();
    let mut left = Vec::new();
    for device in entries(Path::new("/sys/block")) {
        let Ok(file) = fs::read_to_string(device.join("loop/backing_file")) else {
            continue;
        };
        let path = Path::new("/dev").join(device.file_name().unwrap_or_default());
        if file.contains(mark) && !known.contains(&path) {
            left.push(format!("loop device {} of {}", path.display(), file.trim()));
        }
    }
    left
}

fn reports(node: &Node) -> Vec<Value> {
    let files = entries(&node.dir().join("reports"));
    files
        .filter_map(|file| serde_json::from_slice(&fs::read(file).ok()?).ok())
        .collect()
}

/// What is named after one run: its cgroups, its address.
fn of_run(report: &Value) -> Vec<String> {
    let text = |key: &str| report[key].as_str().unwrap_or_default();
    let (uid, sandbox, address) = (text("uid"), text("sandboxId"), text("podIp"));
    let mut left = Vec::new();
    if !uid.is_empty() {
        let cgroup = format!("coracle/pod{uid}");
        let hierarchies = entries(Path::new(CGROUPS)).chain([PathBuf::from(CGROUPS)]);
        let there = hierarchies
            .map(|dir| dir.join(&cgroup))
            .filter(|dir| dir.exists());
        left.extend(there.map(|dir| format!("cgroup {}", dir.display())));
        let disks = super::cache().map(|cache| cache.join("ephemeral").join(uid));
        let disks = disks.ok().filter(|disks| disks.exists());
        left.extend(disks.map(|disks| format!("ephemeral disks {}", disks.display())));
    }
    if address.is_empty() || sandbox.is_empty() {
        return left;
    }
    match fs::read_to_string(Path::new(LEASES).join(address)) {
        // Given to another pod by now, with its route and its rules.
        Ok(holder) if !holder.starts_with(sandbox) => return left,
        Ok(_) => left.push(format!("address {address}, leased to sandbox {sandbox}")),
        Err(_) => {}
    }
    let routes = output("ip", &["-4", "route", "show", address]);
    left.extend(routes.lines().map(|line| format!("route {line}")));
    let rules = output("iptables-save", &["-t", "nat"]);
    let ours = rules.lines().filter(|line| line.contains(sandbox));
    left.extend(ours.map(|line| format!("iptables rule {line}")));
    left
}

fn output(program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).output();
    run.map_or_else(
        |_| String::new(),
        |run| String::from_utf8_lossy(&run.stdout).into_owned(),
    )
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}
