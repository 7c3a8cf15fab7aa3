//! `kubectl coracle`, as a user has it: through kubectl, on a terminal.

use anyhow::{Context, ensure};
use coracle_api::names::ANNOTATION_RUN_POLICY;
use coracle_api::vm::{Phase, VirtualMachine};
use coracle_e2e::{Called, Cluster, Machine, Namespace, Terminal, VmPod, until, vm_object};
use kube::Api;
use serde_json::{Value, json};

use crate::controller::place;
use crate::refused;

/// How long `--wait` waits: the bound is for a test that would hang.
const PATIENCE: &str = "120s";

/// The plugin, in a namespace.
struct Plugin<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl<'a> Plugin<'a> {
    fn new(cluster: &'a Cluster, namespace: &'a Namespace) -> Self {
        Self {
            cluster,
            namespace: &namespace.name,
        }
    }

    async fn call(&self, line: &str) -> anyhow::Result<Called> {
        let mut arguments = vec!["coracle", "--namespace", self.namespace];
        arguments.extend(line.split_whitespace());
        self.cluster.kubectl.call(&arguments).await
    }

    /// Its output, or why it failed.
    async fn run(&self, line: &str) -> anyhow::Result<String> {
        self.call(line)
            .await?
            .output()
            .with_context(|| line.to_owned())
    }

    /// Start and its like, until it is so; what was said.
    async fn does(&self, action: &str) -> anyhow::Result<String> {
        let line = format!("{action} web --wait --timeout {PATIENCE}");
        let called = self.call(&line).await?;
        let said = called.stderr.clone();
        called.output().context(line)?;
        Ok(said)
    }

    fn terminal(&self, line: &str) -> anyhow::Result<Terminal> {
        let mut arguments = vec!["--namespace", self.namespace];
        arguments.extend(line.split_whitespace());
        Terminal::run("kubectl-coracle", &arguments)
    }
}

/// Waits until a guest's pod says what each of them says first.
async fn ready(vm: &Machine, incarnation: i64) -> anyhow::Result<VmPod> {
    let pod = vm.runs(incarnation).await?;
    pod.says("guest ready").await?;
    Ok(pod)
}

/// Waits until no process of a console is left in a pod of this node.
async fn no_console_in(pod: &VmPod) -> anyhow::Result<()> {
    let uid = pod.get().await?.metadata.uid.context("a pod has a uid")?;
    until("no console's process is in the pod", async || {
        let left = std::fs::read_dir("/proc")?.flatten().any(|process| {
            let read = |file| std::fs::read_to_string(process.path().join(file));
            let command = read("cmdline").unwrap_or_default();
            let groups = read("cgroup").unwrap_or_default();
            command.contains("coracle-shim\0console") && groups.contains(&uid)
        });
        Ok((!left).then_some(()))
    })
    .await
}

/// The running VM `web` in each form of the list.
async fn is_listed(plugin: &Plugin<'_>, node: &str, pod: &str) -> anyhow::Result<()> {
    let list = plugin.run("list").await?;
    let line = list
        .lines()
        .find(|line| line.starts_with("web "))
        .context(list.clone())?;
    for word in ["Running", "True", node] {
        assert!(line.contains(word), "{list}");
    }
    let objects: Value = serde_json::from_str(&plugin.run("list -o json").await?)?;
    assert_eq!(objects["items"][0]["status"]["podName"], pod);
    let wide = plugin.run("list -o wide -A").await?;
    assert!(
        wide.contains(plugin.namespace) && wide.contains("64Mi"),
        "{wide}"
    );
    Ok(())
}

#[tokio::test]
async fn a_created_vm_is_listed_paused_resumed_restarted_stopped_and_started() -> anyhow::Result<()>
{
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((node, namespace, _root)) = place(&cluster, "power-button").await? else {
        return Ok(());
    };
    let plugin = Plugin::new(&cluster, &namespace);
    let create = "create --name web --memory 64Mi --accelerator emulation --run-policy onfailure \
                  --disk root=claim:root,bootOrder=1";
    let printed = plugin.run(create).await?;
    assert!(printed.contains("runPolicy: OnFailure"), "{printed}");
    plugin.run(&format!("{create} --apply")).await?;
    let vm = Machine::existing(&namespace, "web");
    let first = ready(&vm, 1).await?;

    is_listed(&plugin, node.name(), &first.name).await?;

    plugin.does("pause").await?;
    vm.phase_is(Phase::Paused).await?;
    assert!(plugin.does("pause").await?.contains("is paused already"));
    plugin.does("resume").await?;
    vm.runs(1).await?;

    plugin.does("restart").await?;
    first.gone().await?;
    let second = ready(&vm, 2).await?;

    plugin.does("stop").await?;
    second.gone().await?;
    assert!(plugin.does("stop").await?.contains("is halted already"));
    let vms: Api<VirtualMachine> = namespace.api();
    let annotations = vms
        .get("web")
        .await?
        .metadata
        .annotations
        .unwrap_or_default();
    let noted = annotations.get(ANNOTATION_RUN_POLICY).map(String::as_str);
    assert_eq!(noted, Some("OnFailure"));
    let refused = plugin.call("console web").await?;
    assert!(
        !refused.ok && refused.stderr.contains("coracle start web"),
        "{}",
        refused.stderr
    );

    let said = plugin.does("start").await?;
    assert!(said.contains("run policy OnFailure"), "{said}");
    ready(&vm, 3).await?;
    assert!(plugin.does("start").await?.contains("is started already"));
    Ok(())
}

#[tokio::test]
async fn the_console_passes_keys_on_and_leaves_the_terminal_as_it_was() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster, "echo").await? else {
        return Ok(());
    };
    let plugin = Plugin::new(&cluster, &namespace);
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    // Before there is anything to see.
    let mut first = plugin.terminal("console web")?;
    first.shows("guest ready", 1).await?;
    assert!(first.is_raw()?);
    first.types("hello guest\r")?;
    first.shows("hello guest", 1).await?;
    first.types("\u{1d}")?;
    assert!(first.ends().await?, "{}", first.screen());
    assert!(!first.is_raw()?);

    let pod = vm.runs(1).await?;
    no_console_in(&pod).await?;

    let mut second = plugin.terminal("console web")?;
    second.shows("hello guest", 1).await?;
    until("the terminal is the guest's", async || {
        Ok(second.is_raw()?.then_some(()))
    })
    .await?;
    second.hang_up()?;
    second.ends().await?;
    assert!(!second.is_raw()?);
    no_console_in(&pod).await
}

#[tokio::test]
async fn the_console_is_joined_again_after_a_restart_and_ends_with_the_vm() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster, "echo").await? else {
        return Ok(());
    };
    let plugin = Plugin::new(&cluster, &namespace);
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    ready(&vm, 1).await?;
    let mut console = plugin.terminal("console web")?;
    console.shows("guest ready", 1).await?;
    plugin.run("restart web").await?;
    console
        .shows("[coracle: the console of web-1 has ended", 1)
        .await?;
    console.shows("guest ready", 2).await?;
    console.types("still here\r")?;
    console.shows("still here", 1).await?;
    plugin.run("stop web").await?;
    console.shows("web does not run", 1).await?;
    assert!(console.ends().await?, "{}", console.screen());
    assert!(!console.is_raw()?);
    Ok(())
}

#[tokio::test]
async fn after_a_crash_the_logs_and_the_advice_say_what_to_do() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster, "panic").await? else {
        return Ok(());
    };
    let plugin = Plugin::new(&cluster, &namespace);
    let vm = vm_object("web", json!({"runPolicy": "Once"}));
    let vm = Machine::apply(&cluster, &namespace, &vm).await?;
    vm.phase_is(Phase::Failed).await?;
    let logs = plugin.run("logs web").await?;
    assert!(logs.contains("guest panics"), "{logs}");
    let followed = plugin.run("logs --follow --tail 50 web").await?;
    assert!(followed.contains("guest panics"), "{followed}");
    let described = plugin.run("describe web").await?;
    for text in [
        "GuestPanicked",
        "exit code 1",
        "claim root",
        "Bound to",
        "reaches the guest: the kubelet maps the device",
        "PodCreated",
        "read what came before with kubectl coracle logs --previous web",
    ] {
        assert!(described.contains(text), "{text}: {described}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_said_with_the_way_out() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let namespace = Namespace::new(&cluster).await?;
    let plugin = Plugin::new(&cluster, &namespace);
    for line in [
        "describe web",
        "start web",
        "console web",
        "logs web",
        "pause web --wait",
    ] {
        let called = plugin.call(line).await?;
        let missing = format!(
            "no VirtualMachine \"web\" in namespace \"{}\"",
            namespace.name
        );
        assert!(
            !called.ok && called.stderr.contains(&missing),
            "{line}: {}",
            called.stderr
        );
    }
    let empty = plugin.call("list").await?;
    assert!(
        empty.ok && empty.stderr.contains("no VM in namespace"),
        "{}",
        empty.stderr
    );
    Ok(())
}

#[tokio::test]
async fn validate_says_what_the_api_server_says() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let mut unlike = Vec::new();
    for manifest in refused::manifests()? {
        let server = refused::refusal(&cluster.client, &manifest).await?;
        let server = server.context("it was let through")?;
        let text = manifest.to_string();
        let validate = ["coracle", "validate", "-f", "-"];
        let called = cluster.kubectl.call_with(&validate, &text).await?;
        ensure!(!called.ok, "it is valid: {text}");
        // After the first line, each is `<stdin>:LINE:COLUMN: ` and the words.
        // The server speaks of unknown fields before it looks at anything else.
        let strict = server.contains("strict decoding error");
        let lines = called.stderr.lines().skip(1);
        let mut lines = lines
            .filter(|line| !strict || line.contains("unknown field"))
            .peekable();
        let some = lines.peek().is_some();
        let alike = lines.all(|line| {
            let words = line.splitn(4, ':').nth(3).map(str::trim_start);
            words.is_some_and(|words| server.contains(words))
        });
        if !some || !alike {
            unlike.push(format!("the server: {server}\nvalidate: {}", called.stderr));
        }
    }
    ensure!(unlike.is_empty(), "{}", unlike.join("\n"));
    Ok(())
}
