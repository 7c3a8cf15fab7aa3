//! `scripts/bench.sh cluster [TIMES]`: what a user of a cluster waits for: the
//! start of a VM, its pause and its resumption. It judges nothing: goals are
//! printed beside what was measured.

mod guest;
mod pause;
mod start;
mod table;

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use coracle_e2e::{Cluster, Namespace};

const TIMES: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let times = numbers.next().unwrap_or(TIMES);
    let dir = std::env::var("CORACLE_BENCH_GUEST").context("run scripts/bench.sh cluster")?;
    let cluster = Cluster::get().await?.context("a cluster")?;
    let node = cluster.node_with_controller().await?.context("a node")?;
    let namespace = Namespace::new(&cluster).await?;
    guest::make_claim(&node, &namespace, Path::new(&dir)).await?;

    let mut rows = start::measure(&cluster, &namespace, times).await?;
    rows.extend(pause::measure(&cluster, &namespace, times).await?);
    let mut out = std::io::stdout();
    for row in rows {
        writeln!(out, "{row}")?;
    }
    Ok(())
}
