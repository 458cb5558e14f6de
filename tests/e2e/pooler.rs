//! Behind a transaction pooler nothing works for long, and what a session sets would reach the application.

use crate::support::{Setup, World};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Poolers keep what a log-in sets to themselves: one that swallows our mark, as `ignore_startup_parameters = options` does.
fn pooler(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test's process; the connections end with their clients.
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(up) = TcpStream::connect(("127.0.0.1", server)) else { return };
            let (back, to) = (up.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || pass(client, up, true));
            thread::spawn(move || pass(back, to, false));
        }
    });
    port
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut swallows: bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let mark = b"pgevict.direct";
        if swallows && let Some(at) = buffer[..n].windows(mark.len()).position(|w| w == mark) {
            buffer[at..at + mark.len()].copy_from_slice(b"pgevict.pooled");
            swallows = false;
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_pooler_is_named_and_nothing_is_set_behind_it() {
    let mut w = World::new(&Setup {
        schema: "CREATE TABLE users (id int PRIMARY KEY)",
        config: "[cache.user]\nkey = \"user:{id}\"\n[table.users]\nevict = [\"user\"]",
        ..Setup::default()
    });
    w.apply();
    let direct = w.pg.url(&w.database);
    let (start, rest) = direct.split_once("127.0.0.1:").unwrap();
    let (port, database) = rest.split_once('/').unwrap();
    let pooled = format!("{start}127.0.0.1:{}/{database}", pooler(port.parse().unwrap()));
    w.set_env("PGEVICT_POSTGRES__URL", &pooled);
    let ran = w.pgevict(&["check"]).exits(4);
    assert!(ran.err.contains("a pooler stands between"), "{}", ran.err);
    w.start_unready(&[]);
    w.wait_line(0, &["a pooler stands between", "name the server itself"]);
    let ran = w.pgevict(&["ready"]).exits(1);
    assert!(ran.out.contains("a pooler stands between"), "{ran:?}");
}
