//! What a process has cost so far, from /proc.

use std::time::Duration;

/// Processor time that it took: independent of who else shares the cores.
pub(crate) fn cpu(pid: u32) -> Duration {
    ticks(pid, [11, 12])
}

/// Processor time of its children that have ended.
pub(crate) fn cpu_of_the_dead(pid: u32) -> Duration {
    ticks(pid, [13, 14])
}

/// Fields behind the name in parentheses, which may hold blanks; user and system time, in hundredths of a second.
fn ticks(pid: u32, fields: [usize; 2]) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let all: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = fields.map(|n| all.get(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0));
    Duration::from_millis((ticks[0] + ticks[1]) * 10)
}

/// Who started it: of a session's process, the server.
pub(crate) fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
}

/// Resident memory now and at its highest, in MB.
pub(crate) fn resident(pid: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kb = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) * 1.024 / 1000.0
    };
    (kb("VmRSS:"), kb("VmHWM:"))
}
