//! Redis as an onlooker sees it: a blocking connection that speaks RESP3, so that Redis itself says when a key went.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longer than anything that is waited for takes.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Text(String),
    List(Vec<Reply>),
}

impl Reply {
    pub(crate) fn int(&self) -> i64 {
        if let Self::Int(n) = self { *n } else { panic!("not a number: {self:?}") }
    }

    pub(crate) fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }
}

pub(crate) struct Resp {
    stream: BufReader<TcpStream>,
    pushed: VecDeque<Vec<String>>,
}

impl Resp {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut resp = Self { stream: BufReader::new(stream), pushed: VecDeque::new() };
        resp.ask(&["HELLO", "3"]);
        resp
    }

    pub(crate) fn ask(&mut self, words: &[&str]) -> Reply {
        self.send(words);
        self.answer()
    }

    /// All of them in one write, then all answers.
    pub(crate) fn pipeline(&mut self, commands: impl Iterator<Item = Vec<String>>) {
        let (mut bytes, mut sent) = (Vec::new(), 0);
        for words in commands {
            encode(&mut bytes, words.iter().map(String::as_str));
            sent += 1;
            if sent == 1000 {
                self.flush(&bytes, sent);
                (bytes, sent) = (Vec::new(), 0);
            }
        }
        self.flush(&bytes, sent);
    }

    fn flush(&mut self, bytes: &[u8], answers: usize) {
        self.stream.get_mut().write_all(bytes).expect("Redis listens");
        for _ in 0..answers {
            self.answer();
        }
    }

    pub(crate) fn send(&mut self, words: &[&str]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, words.iter().copied());
        self.stream.get_mut().write_all(&bytes).expect("Redis listens");
    }

    fn answer(&mut self) -> Reply {
        loop {
            match self.read() {
                (b'>', Reply::List(words)) => self.keep(words),
                (_, reply) => return reply,
            }
        }
    }

    fn keep(&mut self, words: Vec<Reply>) {
        if let [kind, Reply::List(keys)] = words.as_slice()
            && kind.text() == "invalidate"
        {
            self.pushed.push_back(keys.iter().map(|k| k.text().to_owned()).collect());
        }
    }

    fn read(&mut self) -> (u8, Reply) {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("Redis answers");
        let (kind, rest) =
            (line.as_bytes().first().copied().unwrap_or(0), line.get(1..).unwrap_or_default().trim_end());
        let many = |resp: &mut Self, n: usize| Reply::List((0..n).map(|_| resp.read().1).collect());
        let reply = match kind {
            b':' => Reply::Int(rest.parse().expect("a number")),
            b'$' if rest == "-1" => Reply::Nil,
            // Verbatim text says first of which kind it is: "txt:".
            b'$' | b'=' => {
                let mut bytes = vec![0; rest.parse::<usize>().expect("a length") + 2];
                self.stream.read_exact(&mut bytes).expect("Redis answers");
                bytes.truncate(bytes.len() - 2);
                let text = String::from_utf8_lossy(&bytes);
                Reply::Text(text.strip_prefix("txt:").filter(|_| kind == b'=').unwrap_or(&text).to_owned())
            }
            b'*' | b'>' | b'~' => many(self, rest.parse().expect("a length")),
            b'%' => many(self, rest.parse::<usize>().expect("a length") * 2),
            b'_' => Reply::Nil,
            b'-' => panic!("Redis refuses: {rest}"),
            _ => Reply::Text(rest.to_owned()),
        };
        (kind, reply)
    }

    /// Caches the key and asks to be told when it goes. Our own writes are not told (NOLOOP).
    pub(crate) fn watch(&mut self, key: &str) {
        self.ask(&["SET", key, "cached"]);
        self.ask(&["GET", key]);
    }

    /// From now on this connection hears about keys that it watches.
    pub(crate) fn hear(&mut self) {
        self.ask(&["CLIENT", "TRACKING", "ON", "NOLOOP"]);
    }

    /// Blocks until all of these keys went since they were watched, and says when the last one did.
    pub(crate) fn gone(&mut self, keys: &[String]) -> Instant {
        let mut left: Vec<&String> = keys.iter().collect();
        while !left.is_empty() {
            let told = match self.pushed.pop_front() {
                Some(told) => told,
                None => match self.read() {
                    (b'>', Reply::List(words)) => {
                        self.keep(words);
                        continue;
                    }
                    (_, other) => panic!("nothing was asked: {other:?}"),
                },
            };
            left.retain(|key| !told.contains(key));
        }
        Instant::now()
    }

    /// Keys in the database, those of pgevict's own included.
    pub(crate) fn size(&mut self) -> i64 {
        self.ask(&["DBSIZE"]).int()
    }

    /// Waits until at most so many keys are left, asking every half millisecond: it costs Redis a microsecond.
    pub(crate) fn wait_size(&mut self, at_most: i64, patience: Duration) -> Option<Instant> {
        let deadline = Instant::now() + patience;
        while self.size() > at_most {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Some(Instant::now())
    }

    /// One field of INFO.
    pub(crate) fn info(&mut self, section: &str, field: &str) -> String {
        let info = self.ask(&["INFO", section]).text().to_owned();
        let line = info.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }
}

fn encode<'a>(bytes: &mut Vec<u8>, words: impl Iterator<Item = &'a str> + Clone) {
    bytes.extend(format!("*{}\r\n", words.clone().count()).bytes());
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
}
