//! The status page in a real browser.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mofka_client::{ConsumerOptions, DataSelector, Metadata, ProducerOptions, TopicOptions};
use mofka_tests::Node;
use mofka_tests::browser::Browser;
use serde_json::json;

use super::{PATIENCE, node, url};

fn traffic(node: &Node, events: u64) {
    let driver = node.driver();
    for (name, partitions) in [("detector.frames", 3), ("runs", 2)] {
        let topic = match driver.open_topic(name) {
            Ok(topic) => topic,
            Err(_) => driver
                .create_topic(TopicOptions::new(name).partitions(partitions))
                .unwrap(),
        };
        let producer = topic.producer(ProducerOptions::default());
        for n in 0..events {
            producer
                .push(Metadata::from(format!("{{\"n\":{n}}}")), vec![1; 500], None)
                .unwrap();
        }
        producer.close().unwrap();
        let options = ConsumerOptions {
            data_selector: DataSelector::all(),
            ..ConsumerOptions::default()
        };
        let consumer = topic.consumer("archive", options).unwrap();
        for n in 0..events / 2 {
            let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            if n % 50 == 49 {
                event.acknowledge().wait().unwrap();
            }
        }
    }
}

/// Shows the last document once more, with numbers and names as large as they can be, in letters that are far from each other, and
/// asks no more.
const ENORMOUS: &str = r#"
    paused = true;
    clearTimeout(timer);
    document.body.style.letterSpacing = '.15em';
    const large = (value) => typeof value === 'number' ? value * 999999937
        : typeof value === 'string' ? value + '/' + 'W'.repeat(200)
        : Array.isArray(value) ? value.map(large)
        : value && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, large(v)]))
        : value;
    const enormous = large(before);
    enormous.bucket_bounds_us = before.bucket_bounds_us;
    enormous.problems = [{severity: 'critical', subject: 'W'.repeat(200), message: 'W'.repeat(400)}];
    history.forEach((p) => Object.keys(p).forEach((k) => { if (typeof p[k] === 'number' && k !== 'at') p[k] *= 999999937; }));
    show(enormous);
    by('lost').textContent = 'No answer from the node since ' + 'W'.repeat(200);
    by('lost').hidden = false;
    null
"#;

/// Looks whether a page is as wide as its window, keeps a picture where `MOFKA_PICTURES` names a directory, and gives it.
fn picture(browser: &mut Browser, name: &str, width: u32) -> String {
    let wide = browser
        .evaluate("document.documentElement.scrollWidth")
        .as_u64()
        .unwrap();
    assert!(
        wide <= u64::from(width),
        "{name} is {wide} wide, and its window {width}; what is wider than its place: {}",
        browser.evaluate(
            "[...document.querySelectorAll('body *')].filter((e) => e.scrollWidth > e.clientWidth && e.clientWidth > 0)\
             .map((e) => `${e.tagName} ${e.id} ${e.className}`).join(', ')"
        )
    );
    let picture = browser.picture();
    assert!(picture.len() > 20_000, "{name} is empty");
    if let Some(dir) = std::env::var_os("MOFKA_PICTURES") {
        let path = std::path::Path::new(&dir).join(name);
        let decode = std::process::Command::new("base64")
            .arg("-d")
            .stdin(std::process::Stdio::piped())
            .stdout(std::fs::File::create(path).unwrap())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut decode.stdin.as_ref().unwrap(), picture.as_bytes()).unwrap();
        drop(decode.wait_with_output().unwrap());
    }
    picture
}

#[test]
fn the_page_shows_a_node_live_to_eyes_and_to_screen_readers() {
    let Some(mut browser) = Browser::start_or_skip() else {
        return;
    };
    let (node, url) = node(&json!({}));
    traffic(&node, 100);
    browser.look(1280, 900, false, "light");
    browser.visit(&url);
    // Rates need two looks, and plots some more, while something happens.
    let (is_over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            // Ends in any case, so that a failure here does not wait for ever.
            while !is_over.load(Ordering::SeqCst) && rounds.fetch_add(1, Ordering::SeqCst) < 2000 {
                traffic(&node, 400);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            browser.wait_for("Number(document.body?.dataset.polls) >= 12");
            browser.wait_for(
                "[...document.querySelectorAll('#tiles dd')].some((d) => /[1-9].*\\/s/.test(d.textContent))",
            );
            browser.wait_for("document.querySelectorAll('#plots polyline').length >= 6");
            picture(&mut browser, "status-desktop.png", 1280);
            browser.look(1280, 900, false, "dark");
            picture(&mut browser, "status-dark.png", 1280);
            browser.look(390, 844, true, "light");
            browser.wait_for("document.getElementById('disk').clientWidth <= 390");
            // Plots are drawn anew with the next look.
            let polls = browser.evaluate("document.body.dataset.polls");
            browser.wait_for(&format!("document.body.dataset.polls !== {polls}"));
            picture(&mut browser, "status-phone.png", 390);
            // Whatever is shown, and however wide the letters are.
            browser.evaluate(ENORMOUS);
            picture(&mut browser, "status-phone-enormous.png", 390);
            browser.look(320, 568, true, "light");
            browser.wait_for("document.getElementById('disk').clientWidth <= 320");
            picture(&mut browser, "status-small-enormous.png", 320);
        }));
        is_over.store(true, Ordering::SeqCst);
        outcome.unwrap_or_else(|reason| resume_unwind(reason));
    });
    browser.look(1280, 900, false, "light");
    browser.evaluate(
        "document.body.style.letterSpacing = ''; before = null; history = []; paused = false; poll(); null",
    );
    let events = 100 + 400 * rounds.load(Ordering::SeqCst);
    browser.wait_for(&format!(
        "document.getElementById('topics').innerText.includes(count({events}))"
    ));
    let of = |browser: &mut Browser, id: &str| {
        let text = browser.evaluate(&format!("document.getElementById('{id}').textContent"));
        text.as_str().unwrap().to_owned()
    };
    // The machine's disk may be low; nothing else is wrong.
    browser.wait_for("document.querySelectorAll('#problems li.critical').length === 0");
    assert!(!of(&mut browser, "verdict").contains("critical"));
    let consumers = of(&mut browser, "consumers");
    assert!(
        consumers.contains("archive") && consumers.contains("detector.frames"),
        "{consumers}"
    );
    // What a screen reader is told.
    let told = browser.accessibility();
    let has = |role: &str, name: &str| told.iter().any(|(r, n)| r == role && n.starts_with(name));
    for (role, name) in [
        ("heading", "Mofka node"),
        ("heading", "Problems"),
        ("table", "Topics"),
        ("table", "Consumers"),
        ("table", "Partitions"),
        ("columnheader", "Lag"),
        ("rowheader", "runs"),
        ("image", "Events per second. Now in: "),
        ("meter", "Disk"),
        ("button", "Pause"),
        ("link", "To the content"),
        ("main", ""),
    ] {
        assert!(has(role, name), "no {role} {name:?} in {told:?}");
    }
    assert_eq!(
        browser.evaluate("document.getElementById('verdict').getAttribute('aria-live')"),
        "polite"
    );
    // Paused, it asks no more.
    browser.evaluate("document.getElementById('pause').click()");
    assert_eq!(
        browser.evaluate("document.getElementById('pause').getAttribute('aria-pressed')"),
        "true"
    );
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn the_page_says_what_is_wrong_first_and_that_the_node_is_gone() {
    let Some(mut browser) = Browser::start_or_skip() else {
        return;
    };
    let (mut node, _) = node(&json!({"shards": 1}));
    traffic(&node, 100);
    let ids: Vec<_> = node
        .driver()
        .open_topic("runs")
        .unwrap()
        .partitions()
        .iter()
        .map(|p| p.id)
        .collect();
    assert!(node.terminate().success());
    let path = node
        .data_dir()
        .join("partitions")
        .join(ids[1].to_string())
        .join("00000000000000000000.meta");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4300] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    node.start_again();
    browser.look(1280, 900, false, "light");
    browser.visit(&url(&node));
    browser.wait_for("document.querySelectorAll('#problems li.critical').length === 1");
    let text = browser.evaluate("document.getElementById('problems').innerText");
    assert!(
        text.as_str()
            .unwrap()
            .starts_with("Critical: topic runs, partition 1"),
        "{text}"
    );
    let first = browser.evaluate("document.querySelector('#partitions tbody tr').innerText");
    assert!(
        first.as_str().unwrap().contains("read-only"),
        "{first}: partitions that are not well come first"
    );
    let title = browser.evaluate("document.title");
    assert!(title.as_str().unwrap().starts_with('('), "{title}");
    // Names are text, whatever they are.
    let live = browser.evaluate("document.querySelectorAll('script').length");
    assert_eq!(live, 1);
    picture(&mut browser, "status-problem.png", 1280);
    node.kill();
    browser.wait_for("!document.getElementById('lost').hidden");
    let lost = browser.evaluate("document.getElementById('lost').textContent");
    assert!(
        lost.as_str()
            .unwrap()
            .starts_with("No answer from the node since"),
        "{lost}"
    );
}
