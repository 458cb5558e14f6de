//! The proxy itself: each named fault does what its name says. A server that answers every line with the same line stands behind it.

use crate::support::proxy::{Dice, Fault, Proxy};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Short enough to wait for what never comes.
const MOMENT: Duration = Duration::from_millis(300);
/// For what comes, on a machine that is loaded.
const LONG: Duration = Duration::from_secs(20);

/// An echo of lines, and what it has heard.
fn echo() -> (Proxy, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, hears) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, heard) = (stream.unwrap(), heard.clone());
            std::thread::spawn(move || {
                let (mut buffer, mut line) = ([0; 1024], Vec::new());
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    let _ = heard.send(String::from_utf8_lossy(&buffer[..n]).into_owned());
                    line.extend_from_slice(&buffer[..n]);
                    if line.ends_with(b"\n") && stream.write_all(&std::mem::take(&mut line)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (Proxy::before(&format!("127.0.0.1:{port}")), hears)
}

fn connect(proxy: &Proxy) -> std::io::Result<TcpStream> {
    let url = proxy.url("tcp://127.0.0.1:1/");
    let address = url.trim_start_matches("tcp://").trim_end_matches('/').parse().unwrap();
    TcpStream::connect_timeout(&address, LONG)
}

fn dial(proxy: &Proxy) -> TcpStream {
    let stream = connect(proxy).unwrap();
    stream.set_read_timeout(Some(MOMENT)).unwrap();
    stream
}

fn say(stream: &mut TcpStream, line: &str) {
    stream.write_all(line.as_bytes()).unwrap();
}

/// What comes within a moment; the kind of the error otherwise.
fn hear(stream: &mut TcpStream, bytes: usize) -> Result<String, ErrorKind> {
    let mut buffer = vec![0; bytes];
    match stream.read_exact(&mut buffer) {
        Ok(()) => Ok(String::from_utf8(buffer).unwrap()),
        Err(e) => Err(e.kind()),
    }
}

fn works(stream: &mut TcpStream) {
    say(stream, "hello\n");
    stream.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(hear(stream, 6).as_deref(), Ok("hello\n"));
    stream.set_read_timeout(Some(MOMENT)).unwrap();
}

#[test]
fn without_a_fault_everything_passes_and_a_new_target_gets_new_connections() {
    let (proxy, heard) = echo();
    let (other, heard_there) = echo();
    let mut stream = dial(&proxy);
    proxy.wait_dialed(0);
    works(&mut stream);
    proxy.lead_to(&other.url("redis://127.0.0.1:1/0"));
    works(&mut stream);
    works(&mut dial(&proxy));
    assert_eq!((heard.try_iter().count(), heard_there.try_iter().count()), (2, 1));
    assert_eq!((proxy.dialed(), proxy.hits()), (2, 0));
}

#[test]
fn a_cut_resets_what_is_open_and_once_leaves_the_door_open() {
    let (proxy, _heard) = echo();
    let mut stream = dial(&proxy);
    works(&mut stream);
    proxy.cut();
    stream.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(hear(&mut stream, 1), Err(ErrorKind::ConnectionReset));
    works(&mut dial(&proxy));
    proxy.inflict(Fault::Cut);
    // Who dials may hear of it before the connect returns.
    let heard = connect(&proxy).map_err(|e| e.kind()).and_then(|mut stream| {
        stream.set_read_timeout(Some(LONG)).unwrap();
        hear(&mut stream, 1)
    });
    assert_eq!(heard, Err(ErrorKind::ConnectionReset));
    proxy.heal();
    works(&mut dial(&proxy));
}

#[test]
fn a_silent_peer_takes_everything_and_says_nothing_and_stays_so_when_healed() {
    for fault in [Fault::Silent, Fault::Deaf, Fault::Mute] {
        let (proxy, heard) = echo();
        let mut stream = dial(&proxy);
        works(&mut stream);
        proxy.inflict(fault);
        say(&mut stream, "lost\n");
        assert_eq!(hear(&mut stream, 1), Err(ErrorKind::WouldBlock), "{fault:?}");
        assert_eq!(heard.recv_timeout(LONG).as_deref(), Ok("hello\n"));
        if fault == Fault::Deaf {
            assert_eq!(heard.recv_timeout(LONG).as_deref(), Ok("lost\n"));
        }
        assert_eq!(heard.try_iter().next(), None, "{fault:?}");
        proxy.heal();
        say(&mut stream, "also lost\n");
        assert_eq!(hear(&mut stream, 1), Err(ErrorKind::WouldBlock), "{fault:?}");
        works(&mut dial(&proxy));
    }
}

#[test]
fn held_replies_come_when_they_are_released() {
    let (proxy, heard) = echo();
    let mut stream = dial(&proxy);
    works(&mut stream);
    proxy.inflict(Fault::Held);
    say(&mut stream, "later\n");
    assert_eq!(hear(&mut stream, 1), Err(ErrorKind::WouldBlock));
    assert_eq!(heard.recv_timeout(LONG).as_deref(), Ok("hello\n"));
    assert_eq!(heard.recv_timeout(LONG).as_deref(), Ok("later\n"));
    proxy.heal();
    stream.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(hear(&mut stream, 6).as_deref(), Ok("later\n"));
    works(&mut stream);
}

#[test]
fn a_reply_is_lost_or_torn_after_the_effect_and_a_request_before() {
    for (fault, arrives, comes) in
        [(Fault::ReplyLost, "marked\n", ""), (Fault::TornReply, "marked\n", "mar"), (Fault::TornRequest, "mar", "")]
    {
        let (proxy, heard) = echo();
        let mut stream = dial(&proxy);
        works(&mut stream);
        proxy.inflict_once(fault, "marked");
        works(&mut stream);
        say(&mut stream, "marked\n");
        stream.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(hear(&mut stream, comes.len()).as_deref(), Ok(comes), "{fault:?}");
        assert_eq!(hear(&mut stream, 1), Err(ErrorKind::ConnectionReset), "{fault:?}");
        let last = heard.iter().find(|l| l.starts_with("mar"));
        assert_eq!(last.as_deref(), Some(arrives), "{fault:?}");
        proxy.wait_hit(0);
        works(&mut dial(&proxy));
        assert_eq!(proxy.hits(), 1);
    }
}

#[test]
fn trickling_and_slow_connections_lose_nothing() {
    let (proxy, heard) = echo();
    let mut stream = dial(&proxy);
    proxy.inflict(Fault::Trickle);
    // Who gets no core for some milliseconds reads the pieces at once.
    let mut in_pieces = || {
        works(&mut stream);
        heard.try_iter().next().unwrap().len() < 6
    };
    assert!((0..50).any(|_| in_pieces()), "every line came in one piece");
    proxy.inflict(Fault::Slow(Duration::from_millis(200)));
    let before = Instant::now();
    works(&mut stream);
    assert!(before.elapsed() >= Duration::from_millis(400), "{:?}", before.elapsed());
}

#[test]
fn connects_hang_with_and_without_an_answer_of_the_kernel() {
    let (proxy, _heard) = echo();
    let mut open = dial(&proxy);
    works(&mut open);
    proxy.inflict(Fault::HangsAfterAccept);
    let mut stream = dial(&proxy);
    say(&mut stream, "hello\n");
    assert_eq!(hear(&mut stream, 1), Err(ErrorKind::WouldBlock));
    works(&mut open);
    let before = proxy.hits();
    proxy.inflict(Fault::ConnectHangs);
    proxy.wait_hit(before);
    let url = proxy.url("127.0.0.1:1");
    let address: SocketAddr = url.parse().unwrap();
    assert_eq!(TcpStream::connect_timeout(&address, MOMENT).unwrap_err().kind(), ErrorKind::TimedOut);
    works(&mut open);
    proxy.heal();
    works(&mut dial(&proxy));
}

#[test]
fn a_proxy_that_is_dropped_ends_its_connections() {
    let (proxy, _heard) = echo();
    let mut stream = dial(&proxy);
    works(&mut stream);
    drop(proxy);
    stream.set_read_timeout(Some(LONG)).unwrap();
    assert!(matches!(hear(&mut stream, 1), Err(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)));
}

#[test]
fn a_seed_repeats_its_faults_and_every_kind_is_drawn() {
    let draw = |seed| {
        let mut dice = Dice::seeded(seed);
        (0..500).map(|_| dice.fault()).collect::<Vec<_>>()
    };
    let drawn = draw(7);
    assert_eq!(drawn, draw(7));
    assert_ne!(drawn, draw(8));
    for fault in Fault::ALL {
        let same = |f: &Fault| std::mem::discriminant(f) == std::mem::discriminant(&fault);
        assert!(drawn.iter().any(same), "{fault:?} is never drawn");
    }
    let mut dice = Dice::new();
    dice.fault();
    let pause = dice.between(Duration::from_millis(1), Duration::from_millis(2));
    assert!(pause <= Duration::from_millis(2));
}
