//! The network between the daemon and its servers, broken in each of the proxy's named ways (`tests/support/proxy`). The
//! application's own connections go past it: writers and fillers work on while the daemon is cut off.

use super::proxy::Fault;
use super::stage::Stage;
use std::sync::LazyLock;
use std::time::Duration;

/// What is done, and how long at least and at most, in ms.
const KINDS: [(&str, Fault, u64, u64); 12] = [
    ("cut", Fault::Cut, 0, 800),
    // What lost a byte stays silent until the daemon notices, 13 s later at most.
    ("silent", Fault::Silent, 50, 2500),
    ("deaf", Fault::Deaf, 50, 2500),
    ("mute", Fault::Mute, 50, 2500),
    // Up to 9 s the session goes on.
    ("held", Fault::Held, 50, 11_000),
    ("reply lost", Fault::ReplyLost, 50, 1000),
    ("torn request", Fault::TornRequest, 50, 1000),
    ("torn reply", Fault::TornReply, 50, 1000),
    ("one byte", Fault::Trickle, 300, 2000),
    ("latency", Fault::Slow(Duration::from_millis(20)), 500, 2500),
    ("connects hang", Fault::HangsAfterAccept, 200, 2500),
    ("no connects", Fault::ConnectHangs, 200, 2500),
];

const SERVERS: [&str; 2] = ["postgres", "redis"];

/// All of them, at either server, each as often as the rarest of the others.
pub(crate) fn faults() -> &'static [(&'static str, u32)] {
    static ALL: LazyLock<Vec<(&str, u32)>> = LazyLock::new(|| {
        let name = |server, kind| &*format!("{server}: {kind}").leak();
        SERVERS.iter().flat_map(|server| KINDS.iter().map(move |(kind, ..)| (name(server, kind), 1))).collect()
    });
    &ALL
}

/// Lets the fault of this name happen and end; false: there is none. `size` is 0 to 999.
pub(crate) fn inflict(stage: &Stage, name: &str, size: u32) -> bool {
    let Some(at) = faults().iter().position(|(known, _)| *known == name) else { return false };
    let (_, fault, least, most) = KINDS[at % KINDS.len()];
    let proxy = &stage.proxies[at / KINDS.len()];
    let fault = match fault {
        Fault::Slow(_) => Fault::Slow(Duration::from_millis(1 + u64::from(size) / 10)),
        other => other,
    };
    proxy.inflict(fault);
    if matches!(fault, Fault::HangsAfterAccept | Fault::ConnectHangs) {
        // It concerns those who dial.
        proxy.cut();
    }
    std::thread::sleep(Duration::from_millis(least + (most - least) * u64::from(size) / 1000));
    proxy.heal();
    true
}
