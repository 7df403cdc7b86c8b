use super::*;
use proptest::prelude::*;

const LIMIT: usize = 8 << 10;

fn get(fields: &str) -> Result<Option<Head>, Refusal> {
    examine(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes(), LIMIT)
}

fn line(request_line: &str) -> Result<Option<Head>, Refusal> {
    examine(format!("{request_line}\r\nHost: h\r\n\r\n").as_bytes(), LIMIT)
}

fn refused(bytes: &[u8]) -> Refusal {
    examine(bytes, LIMIT).expect_err("must be refused")
}

#[test]
fn a_plain_request_is_read_field_by_field() {
    let bytes =
        b"POST /a/b?c=d?e HTTP/1.1\r\nHost: [::1]:80\r\nX-One:  two \t\r\ncontent-length: 007\r\n\r\nBODY";
    let head = examine(bytes, LIMIT).unwrap().unwrap();
    assert_eq!(
        (head.method.as_str(), head.path.as_str(), head.query.as_deref()),
        ("POST", "/a/b", Some("c=d?e"))
    );
    assert_eq!((head.body, head.size, head.expects_continue), (7, bytes.len() - 4, false));
    assert_eq!(head.headers.get("x-ONE"), Some("two"));
    assert_eq!(head.headers.get("absent"), None);
    let names: Vec<&str> = head.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Host", "X-One", "content-length"]);
}

#[test]
fn content_length_is_one_plain_number() {
    for bad in ["", "abc", "-1", "+5", "0x10", "5, 5", "5 5", "1.0", "1e3", "5;"] {
        assert_eq!(get(&format!("Content-Length: {bad}\r\n")), Err(Refusal::BadLength), "{bad:?}");
    }
    for twice in ["5\r\nContent-Length: 5", "5\r\nX: y\r\ncontent-length: 6"] {
        assert_eq!(get(&format!("Content-Length: {twice}\r\n")), Err(Refusal::BadLength), "{twice:?}");
    }
    let most = get(&format!("Content-Length: {}\r\n", usize::MAX)).unwrap().unwrap();
    assert_eq!(most.body, usize::MAX);
    for huge in ["99999999999999999999", &"9".repeat(400)] {
        assert_eq!(get(&format!("Content-Length: {huge}\r\n")), Err(Refusal::BodyTooLarge), "{huge:?}");
    }
}

#[test]
fn every_transfer_encoding_is_refused() {
    for coding in ["chunked", "identity", "xchunked", "", "gzip, chunked", " chunked"] {
        assert_eq!(
            get(&format!("Transfer-Encoding: {coding}\r\n")),
            Err(Refusal::TransferEncoding),
            "{coding:?}"
        );
    }
    assert_eq!(get("Content-Length: 5\r\ntransfer-encoding: chunked\r\n"), Err(Refusal::TwoFramings));
    assert_eq!(get("transfer-encoding: chunked\r\nContent-Length: 5\r\n"), Err(Refusal::TwoFramings));
}

#[test]
fn other_versions_are_refused() {
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Refusal::Version);
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3", "http/1.1", "ICY/1.0"] {
        assert_eq!(line(&format!("GET / {version}")), Err(Refusal::Version), "{version}");
    }
    assert!(line("GET / HTTP/1.0").unwrap().is_some());
}

#[test]
fn lines_end_in_cr_lf_and_in_nothing_else() {
    for bytes in [
        &b"GET / HTTP/1.1\nHost: h\n\n"[..],
        b"GET / HTTP/1.1\r\nHost: h\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        b"GET / HTTP/1.1\rHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        assert_eq!(refused(bytes), Refusal::BadByte, "{}", bytes.escape_ascii());
    }
    assert_eq!(refused(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), Refusal::BadRequestLine);
}

#[test]
fn control_and_non_ascii_bytes_are_refused_at_once() {
    for byte in (0..=255u8).filter(|b| !matches!(b, b'\t' | b'\r' | b'\n' | b' '..=b'~')) {
        let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
        bytes.push(byte);
        assert_eq!(refused(&bytes), Refusal::BadByte, "{byte:#x}");
    }
    assert_eq!(refused("GET /é HTTP/1.1\r\n".as_bytes()), Refusal::BadByte);
    assert_eq!(refused(b"\x16\x03\x01\x02\x00\x01\x00"), Refusal::BadByte, "a TLS hello");
}

#[test]
fn malformed_request_lines_are_refused() {
    for bad in ["GET", "GET /", "GET  / HTTP/1.1", "GET /  HTTP/1.1", " GET / HTTP/1.1", "G(T / HTTP/1.1"] {
        let refusal = line(bad).expect_err(bad);
        assert_eq!(
            refusal.status() / 100 * 100,
            if refusal == Refusal::Version { 500 } else { 400 },
            "{bad}"
        );
    }
    for bad in ["GET / HTTP/1.1 more", "GET / HTTP/1.1 ", "GET\t/ HTTP/1.1", "\tGET / HTTP/1.1"] {
        assert_eq!(line(bad), Err(Refusal::BadRequestLine), "{bad:?}");
    }
}

#[test]
fn malformed_fields_are_refused() {
    for bad in
        [" folded: yes", "\tfolded", "X: y\r\n folded", "no-colon", "name : v", ": empty", "a b: c", "a(b: c"]
    {
        assert_eq!(get(&format!("{bad}\r\n")), Err(Refusal::BadHeader), "{bad:?}");
    }
}

#[test]
fn sixty_four_fields_pass_and_one_more_does_not() {
    assert_eq!(
        get(&"a: b\r\n".repeat(MAX_HEADERS - 1)).unwrap().unwrap().headers.iter().count(),
        MAX_HEADERS
    );
    assert_eq!(get(&"a: b\r\n".repeat(MAX_HEADERS)), Err(Refusal::TooManyHeaders));
}

#[test]
fn a_head_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
    let frame = "GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n".len();
    let exact = get(&format!("X: {}\r\n", "v".repeat(LIMIT - frame))).unwrap().unwrap();
    assert_eq!(exact.size, LIMIT);
    assert_eq!(get(&format!("X: {}\r\n", "v".repeat(LIMIT - frame + 1))), Err(Refusal::HeadTooLarge));
    assert_eq!(refused(&[b'a'; LIMIT]), Refusal::HeadTooLarge);
    assert_eq!(examine(&[b'a'; LIMIT - 1], LIMIT), Ok(None));
}

#[test]
fn targets_have_three_forms() {
    let split = |request_line: &str| {
        let head = line(request_line).unwrap().unwrap();
        (head.path, head.query)
    };
    assert_eq!(split("GET /p?q HTTP/1.1"), ("/p".into(), Some("q".into())));
    assert_eq!(split("GET http://h/p?q HTTP/1.1"), ("/p".into(), Some("q".into())));
    assert_eq!(split("GET HTTPS://H?q HTTP/1.1"), ("/".into(), Some("q".into())));
    assert_eq!(split("OPTIONS * HTTP/1.1"), ("*".into(), None));
    for bad in [
        "GET * HTTP/1.1",
        "GET p HTTP/1.1",
        "CONNECT h:80 HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET http:// HTTP/1.1",
    ] {
        assert_eq!(line(bad), Err(Refusal::BadTarget), "{bad}");
    }
    assert_eq!(line("GET http://other/ HTTP/1.1"), Err(Refusal::BadHost));
}

#[test]
fn host_is_required_once_and_well_formed() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), Refusal::BadHost);
    assert!(examine(b"GET / HTTP/1.0\r\n\r\n", LIMIT).unwrap().is_some());
    assert_eq!(get("Host: h\r\n"), Err(Refusal::BadHost));
    assert_eq!(refused(b"GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n"), Refusal::BadHost);
    for bad in ["a b", "a/b", "user@h", "a\tb", "<h>"] {
        assert_eq!(
            refused(format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n").as_bytes()),
            Refusal::BadHost,
            "{bad}"
        );
    }
    for good in ["", "h:80", "[fe80::1%25eth0]:5087", "192.0.2.1"] {
        assert!(
            examine(format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n").as_bytes(), LIMIT).unwrap().is_some()
        );
    }
}

#[test]
fn only_100_continue_can_be_expected() {
    assert!(get("Expect: 100-Continue\r\n").unwrap().unwrap().expects_continue);
    assert_eq!(get("Expect: 200-ok\r\n"), Err(Refusal::Expectation));
    let old = examine(b"POST / HTTP/1.0\r\nExpect: 200-ok\r\n\r\n", LIMIT).unwrap().unwrap();
    assert!(!old.expects_continue);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700), limit in 0usize..600) {
        if let Ok(Some(head)) = examine(&bytes, limit) {
            prop_assert!(head.size <= limit && head.size <= bytes.len());
        }
    }

    #[test]
    fn almost_http_never_panics_and_what_passes_is_clean(
        parts in proptest::collection::vec(prop_oneof![
            Just("GET "), Just("/"), Just(" HTTP/1.1"), Just("\r\n"), Just("\r\n\r\n"), Just("\n"), Just("\r"),
            Just("Host: h"), Just("Content-Length: "), Just("5"), Just(":"), Just(" "), Just("\t"), Just("?"),
            Just("http://h"), Just("Transfer-Encoding: chunked"), Just("Expect: "), Just("*"), Just("#"), Just("é"),
        ], 0..24),
    ) {
        let bytes = format!("GET / HTTP/1.1\r\n{}", parts.concat());
        if let Ok(Some(head)) = examine(bytes.as_bytes(), 4096) {
            prop_assert!(head.headers.get("transfer-encoding").is_none());
            prop_assert!(head.headers.iter().all(|(n, v)| !n.contains(['\r', '\n']) && !v.contains(['\r', '\n'])));
        }
    }
}
