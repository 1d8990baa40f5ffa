//! As much of HTTP/1.1 as a scraper, a probe and a browser need: one GET or HEAD a connection, no body.

use std::sync::Arc;
use std::time::Duration;

/// Bytes of a request, all of it.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Only the head of the answer is wanted.
    pub is_head: bool,
    /// The path, without what follows a question mark.
    pub path: String,
    /// What forms of an answer the client takes.
    pub accept: Option<String>,
    /// By which name the client came.
    pub host: Option<String>,
}

/// What so many bytes of a connection are.
#[derive(Debug)]
pub enum Parsed {
    /// The begin of a request.
    Partial,
    /// A request.
    Whole(Request),
    /// Something else, which is answered like this.
    Refused(Response),
}

/// Looks at what came so far.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut headers);
    match raw.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => match request(&raw) {
            Ok(request) => Parsed::Whole(request),
            Err(refusal) => Parsed::Refused(refusal),
        },
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Parsed::Refused(Response::text(
                431,
                &format!("a request has at most {REQUEST_BYTES_MAX} bytes and {HEADERS_MAX} headers"),
            ))
        }
        Err(httparse::Error::Version) => {
            Parsed::Refused(Response::text(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"))
        }
        Err(error) => Parsed::Refused(Response::text(400, &format!("not an HTTP request: {error}"))),
    }
}

fn request(raw: &httparse::Request<'_, '_>) -> Result<Request, Response> {
    let bad = |what: &str| Response::text(400, what);
    let is_head = match raw.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => {
            let refusal = Response::text(
                405,
                "only GET and HEAD are answered here: nothing can be changed by HTTP",
            );
            return Err(refusal.with_header("Allow", "GET, HEAD"));
        }
    };
    let header = |name: &str| {
        let mut all = raw
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(header), None) => match std::str::from_utf8(header.value) {
                Ok(value) => Ok(Some(value.trim().to_owned())),
                Err(_) => Err(bad(&format!("the header {name} is not text"))),
            },
            // Lists may come in several headers; whoever does that gets the plain form.
            _ if name == "Accept" => Ok(None),
            _ => Err(bad(&format!("the header {name} is there more than once"))),
        }
    };
    let has_body = header("Content-Length")?.is_some_and(|bytes| bytes != "0");
    if has_body || header("Transfer-Encoding")?.is_some() {
        return Err(bad("a request has no body here"));
    }
    let host = header("Host")?;
    if host.is_none() && raw.version == Some(1) {
        return Err(bad("the header Host is missing"));
    }
    let target = raw.path.unwrap_or_default();
    if !target.starts_with('/') {
        return Err(bad("the target of a request is a path here"));
    }
    Ok(Request {
        is_head,
        path: target.split(['?', '#']).next().unwrap_or_default().to_owned(),
        accept: header("Accept")?,
        host,
    })
}

impl Request {
    /// Whether OpenMetrics is what the client likes best of the forms that we have.
    pub fn wants_openmetrics(&self) -> bool {
        let Some(accept) = &self.accept else { return false };
        let (mut open, mut plain) = (0, 0);
        for range in accept.split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut is_known) = (1000, true);
            for part in parts {
                match part.split_once('=') {
                    Some(("q", value)) => quality = thousandths(value),
                    Some(("version", version)) => {
                        let known: &[&str] = match kind.as_str() {
                            "application/openmetrics-text" => &["1.0.0", "0.0.1"],
                            _ => &["0.0.4"],
                        };
                        is_known = known.contains(&version.trim_matches('"'));
                    }
                    _ => {}
                }
            }
            if !is_known {
                continue;
            }
            match kind.as_str() {
                "application/openmetrics-text" => open = open.max(quality),
                "text/plain" | "text/*" => plain = plain.max(quality),
                _ => {}
            }
        }
        open > 0 && open >= plain
    }

    /// Whether the name by which the client came is one that may be. An address always is: a page elsewhere cannot make it its
    /// own.
    pub fn has_known_host(&self, listens_on_loopback: bool, names: &[String]) -> bool {
        let Some(host) = self.host.as_deref().filter(|_| listens_on_loopback) else {
            return true;
        };
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        name.parse::<std::net::IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// A weight such as `0.75`, in thousandths; what is no weight is none.
fn thousandths(text: &str) -> u32 {
    match text.trim().parse::<f32>() {
        // In range, so the cast is exact enough.
        Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1000.0) as u32,
        _ => 0,
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    policy: Option<String>,
    body: Arc<Vec<u8>>,
}

/// Nothing may be loaded, run or framed.
const STRICT_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Response {
    /// An answer of this form.
    pub fn new(status: u16, content_type: &'static str, body: Arc<Vec<u8>>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            policy: None,
            body,
        }
    }

    /// A line for people.
    pub fn text(status: u16, line: &str) -> Self {
        let body = format!("{line}\n").into_bytes();
        Self::new(status, "text/plain; charset=utf-8", Arc::new(body))
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The same, and a browser may do what this says beyond the strict policy.
    #[must_use]
    pub fn with_policy(mut self, more: &str) -> Self {
        self.policy = Some(format!("{STRICT_POLICY}; {more}"));
        self
    }

    /// What follows the head.
    pub fn body(&self) -> &Arc<Vec<u8>> {
        &self.body
    }

    /// All before the body. `since_1970`: the time now.
    pub fn head(&self, since_1970: Duration) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nContent-Security-Policy: {}\r\n",
            self.status,
            reason(self.status),
            date(since_1970.as_secs()),
            self.content_type,
            self.body.len(),
            self.policy.as_deref().unwrap_or(STRICT_POLICY),
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// A time as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let name = |names: &'static [&'static str], place: u64| {
        usize::try_from(place)
            .ok()
            .and_then(|place| names.get(place))
            .copied()
            .unwrap_or("?")
    };
    let weekday = name(&DAYS, days % 7);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) && year < 9999 {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!(
        "{weekday}, {:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        days + 1,
        name(&MONTHS, month),
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Whole(request) => request,
            other => panic!("{text:?} is {other:?}"),
        }
    }

    fn status(bytes: &[u8]) -> u16 {
        match parse(bytes) {
            Parsed::Refused(response) => response.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_read_and_its_query_left_out() {
        let request = whole("GET /metrics?a=b#c HTTP/1.1\r\nhOst: here:1\r\nAccept: text/plain\r\n\r\n");
        assert_eq!((request.path.as_str(), request.is_head), ("/metrics", false));
        assert_eq!(
            (request.host.as_deref(), request.accept.as_deref()),
            (Some("here:1"), Some("text/plain"))
        );
        assert!(whole("HEAD / HTTP/1.0\r\n\r\n").is_head);
    }

    #[test]
    fn every_begin_of_a_request_is_partial() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for end in 0..text.len() {
            assert!(matches!(parse(&text[..end]), Parsed::Partial), "{end}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_status_that_says_why() {
        assert_eq!(status(b"\x16\x03\x01\x02\x00"), 400);
        assert_eq!(status(b"GET / HTTP/2.0\r\n\r\n"), 505);
        assert_eq!(status(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
        assert_eq!(
            status(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
            400
        );
        assert_eq!(
            status(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400
        );
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"), 400);
        let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(status(many.as_bytes()), 431);
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(REQUEST_BYTES_MAX));
        assert_eq!(status(long.as_bytes()), 431);
    }

    #[test]
    fn the_form_that_is_liked_best_is_sent() {
        let wants = |accept: &str| {
            whole(&format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n")).wants_openmetrics()
        };
        // What Prometheus 2.42 sends, and what 3 sends.
        assert!(wants(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ));
        assert!(wants(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.1"
        ));
        assert!(!wants(
            "text/plain;version=0.0.4;q=0.7,application/openmetrics-text;q=0.5"
        ));
        assert!(!wants("application/openmetrics-text;version=2.0.0,*/*"));
        assert!(!wants("application/openmetrics-text;q=0"));
        assert!(!wants("application/openmetrics-text;q=nan"));
        assert!(!wants("*/*"));
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n").wants_openmetrics());
    }

    #[test]
    fn on_loopback_only_known_names_are_answered() {
        let known = |host: &str, names: &[String]| {
            whole(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).has_known_host(true, names)
        };
        for host in ["localhost", "LOCALHOST:9", "127.0.0.1:80", "[::1]:80", "10.1.2.3"] {
            assert!(known(host, &[]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "[::1",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!known(host, &[]) || host == "[::1", "{host}");
        }
        assert!(known("node7.cluster:80", &["Node7.cluster".to_owned()]));
        let request = whole("GET / HTTP/1.1\r\nHost: any.example\r\n\r\n");
        assert!(request.has_known_host(false, &[]));
    }

    #[test]
    fn a_head_has_what_keeps_browsers_strict() {
        let response = Response::text(404, "no").with_header("Allow", "x");
        let head = String::from_utf8(response.head(Duration::from_secs(784_111_777))).unwrap();
        for line in [
            "HTTP/1.1 404 Not Found\r\n",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "Content-Length: 3\r\n",
            "X-Content-Type-Options: nosniff\r\n",
            "Cache-Control: no-store\r\n",
            "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
            "Allow: x\r\n\r\n",
        ] {
            assert!(head.contains(line), "{line:?} in {head}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 GMT");
        assert_eq!(date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }
}
