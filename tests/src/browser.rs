//! Headless Chromium, driven over its own protocol: JSON messages through two pipes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything of a page may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A browser with one page. Ends when dropped.
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    last: u64,
    complaints: Vec<String>,
    _dir: TempDir,
}

impl Browser {
    /// Starts one; nothing, and a line that says why, where there is none.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start_or_skip() -> Option<Self> {
        let has = |name: &str| {
            Command::new(name)
                .arg("--version")
                .output()
                .is_ok_and(|output| output.status.success())
        };
        let Some(program) = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|name| has(name))
        else {
            eprintln!("skipped: no Chromium here (Debian: apt-get install chromium)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = dir.path().join(name);
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap();
            path
        };
        let (to, from) = (pipe("to"), pipe("from"));
        // The shell opens the descriptors by number, which a program without unsafe code cannot. Both ways, so that no open waits.
        let child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" \"$@\" 3<>\"$TO\" 4<>\"$FROM\"")
            .arg(program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--remote-debugging-pipe",
            ])
            .arg(format!(
                "--user-data-dir={}",
                dir.path().join("profile").display()
            ))
            .arg("about:blank")
            .env("TO", &to)
            .env("FROM", &from)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
        let mut browser = Self {
            child,
            to: open(&to),
            from: BufReader::new(open(&from)),
            session: None,
            last: 0,
            complaints: Vec::new(),
            _dir: dir,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call(
            "Target.attachToTarget",
            &json!({"targetId": target, "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// What the page complained of: errors of its script, what its policy refused, what could not be loaded.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Goes to a page.
    pub fn visit(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
    }

    /// The value of an expression in the page.
    ///
    /// # Panics
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call(
            "Runtime.evaluate",
            &json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn wait_for(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.evaluate(expression) != Value::Bool(true) {
            if Instant::now() >= deadline {
                let text = self.evaluate("document.body.innerText");
                panic!(
                    "not true after {PATIENCE:?}: {expression}; complaints {:?}; the page says\n{text}",
                    self.complaints
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes the window so large, in light or dark colours.
    pub fn look(&mut self, width: u32, height: u32, is_phone: bool, scheme: &str) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// What a screen reader is told: the role and the name of each thing.
    pub fn accessibility(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let told = nodes.iter().filter(|node| node["ignored"] != true);
        told.map(|node| (text(&node["role"]), text(&node["name"])))
            .collect()
    }

    /// A picture of the whole page, as the base64 text of a PNG.
    ///
    /// # Panics
    /// When there is none.
    pub fn picture(&mut self) -> String {
        let answer = self.call(
            "Page.captureScreenshot",
            &json!({"format": "png", "captureBeyondViewport": true}),
        );
        answer["data"].as_str().unwrap().to_owned()
    }

    /// Asks the browser for something.
    ///
    /// # Panics
    /// When it refuses, or is gone.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert_eq!(
                bytes.pop(),
                Some(0),
                "the browser ended: {:?}",
                self.child.try_wait()
            );
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == self.last {
                assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            let event = answer["method"].as_str().unwrap_or_default();
            let is_bad = event == "Runtime.exceptionThrown"
                || (event == "Log.entryAdded" && answer["params"]["entry"]["level"] == "error")
                || (event == "Runtime.consoleAPICalled" && answer["params"]["type"] == "error");
            if is_bad {
                self.complaints.push(answer["params"].to_string());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
