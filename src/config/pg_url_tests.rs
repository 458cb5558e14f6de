use super::*;
use proptest::prelude::*;

fn ok(text: &str) -> PgUrl {
    parse(text, Some("me")).unwrap_or_else(|p| panic!("{text}: {p:?}")).url
}

fn bad(text: &str) -> Vec<(&'static str, String)> {
    let problems = parse(text, Some("me")).expect_err(text);
    problems.into_iter().map(|p| (p.code.as_str(), p.message)).collect()
}

fn host(host: &str, port: u16) -> PgHost {
    PgHost { host: host.into(), hostaddr: None, port }
}

#[test]
fn urls_are_read_as_libpq_reads_them() {
    let u = ok("postgresql://bob:p%40ss@db1:5433,db2/app?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=7");
    assert_eq!(u.hosts, [host("db1", 5433), host("db2", 5432)]);
    assert_eq!((u.user.as_str(), u.dbname.as_str()), ("bob", "app"));
    assert_eq!(u.password.as_ref().map(Secret::expose), Some("p@ss"));
    assert_eq!((u.tls.mode, u.tls.root_cert), (SslMode::VerifyFull, Some("/ca.pem".into())));
    assert_eq!(u.connect_timeout, Duration::from_secs(7));
    assert_eq!(ok("postgres://[::1]:5433/x").hosts, [host("::1", 5433)]);
    assert_eq!(ok("postgresql://%2Frun%2Fpg:5433/x").hosts, [host("/run/pg", 5433)]);
    assert_eq!(ok("postgresql:///x?host=/run/pg&port=5433").hosts, [host("/run/pg", 5433)]);
    assert_eq!(ok("postgresql:///x").hosts, [host(SOCKET_DIRECTORY, 5432)]);
    assert_eq!(ok("postgresql://a,b:1,c/x").hosts, [host("a", 5432), host("b", 1), host("c", 5432)]);
}

#[test]
fn user_and_database_have_libpqs_defaults() {
    let u = ok("postgresql://");
    assert_eq!((u.user.as_str(), u.dbname.as_str()), ("me", "me"));
    assert_eq!(ok("postgresql://bob@h").dbname, "bob");
    assert!(parse("postgresql://", None).is_err());
}

#[test]
fn key_value_text_is_read() {
    let u = ok(r"host=a,b port=1 dbname='my db' user=o\'neil options = '-c a=b' hostaddr=10.0.0.1,::1");
    assert_eq!(u.hosts[1], PgHost { host: "b".into(), hostaddr: "::1".parse().ok(), port: 1 });
    assert_eq!((u.dbname.as_str(), u.user.as_str(), u.options.as_deref()), ("my db", "o'neil", Some("-c a=b")));
}

#[test]
fn tcp_user_timeout_is_milliseconds_and_zero_is_the_default() {
    assert_eq!(ok("postgresql://h?tcp_user_timeout=1500").tcp_user_timeout, Duration::from_millis(1500));
    assert_eq!(ok("postgresql://h?tcp_user_timeout=0").tcp_user_timeout, Duration::from_secs(10));
}

#[test]
fn the_systems_certificates_mean_verify_full() {
    assert_eq!(ok("postgresql://h?sslrootcert=system").tls.mode, SslMode::VerifyFull);
    assert_eq!(bad("postgresql://h?sslrootcert=system&sslmode=require")[0].0, "PE122");
}

#[test]
fn wrong_texts_are_refused_without_quoting_them() {
    for (text, code) in [
        ("mysql://h/x", "PE120"),
        ("localhost", "PE120"),
        ("postgresql://u:s3cret/x@h/d", "PE120"),
        ("postgresql://u:s3@cret@h/d", "PE120"),
        ("postgresql://u:s3cret@[::1/d", "PE120"),
        ("postgresql://u:s3cret%zz@h/d", "PE120"),
        ("postgresql://u:s3cret", "PE122"),
        ("postgresql://h:0/d", "PE122"),
        ("postgresql://h/d?s3cret=1", "PE121"),
        ("postgresql://h/d?ssl_mode=require", "PE121"),
        ("postgresql://h/d?sslmode=s3cret", "PE122"),
        ("postgresql://h/d?target_session_attrs=standby", "PE123"),
        ("postgresql://h/d?service=x", "PE123"),
        ("postgresql://h/d?connect_timeout=0", "PE122"),
        ("host=a,b port=1,2,3", "PE122"),
        ("host=a password='s3cret", "PE120"),
        ("postgresql://h/d?sslcert=a", "PE122"),
        ("postgresql://h/d?hostaddr=s3cret", "PE122"),
    ] {
        let problems = bad(text);
        assert_eq!(problems[0].0, code, "{text}");
        assert!(problems.iter().all(|(_, m)| !m.contains("s3")), "{problems:?}");
    }
}

#[test]
fn a_mistyped_parameter_is_guessed() {
    let problems = parse("postgresql://h/d?ssl_mode=require", Some("me")).expect_err("unknown");
    assert_eq!(problems[0].help.as_deref(), Some("did you mean `sslmode`?"));
}

proptest! {
    #[test]
    fn reading_never_panics(s in "\\PC{0,40}", t in "postgres(ql)?://[a-z:@/?&=%,\\[\\]0-9]{0,30}", u in "[a-z]{1,4}=[ '\\\\a-z=]{0,12}") {
        for text in [s, t, u] {
            let _ = parse(&text, Some("me"));
        }
    }
}
