//! What the package brings, started for real with other paths; jobs of batch systems, with stand-ins for their launchers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mofka_tests::{Node, http, program};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

#[test]
fn the_example_of_an_ingest_node_starts() {
    let example = std::fs::read_to_string(packaging().join("config/ingest-node.json")).unwrap();
    let sockets = tempfile::tempdir_in("/tmp").unwrap();
    let mut node = Node::prepare(&["-c", "config.json", "--shards", "2"]);
    let mut config = example;
    for (theirs, ours) in [
        ("/var/lib/mofka", "./mofka-data".to_owned()),
        ("/run/mofka/mofka.json", "./mofka.json".to_owned()),
        ("/run/mofka", sockets.path().display().to_string()),
        ("127.0.0.1:7800", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:9464", "127.0.0.1:0".to_owned()),
    ] {
        assert!(config.contains(theirs), "{theirs} is in the example");
        config = config.replace(theirs, &ours);
    }
    std::fs::write(node.dir().join("config.json"), config).unwrap();
    node.start_again();
    let status = node.driver().node_status(0).unwrap();
    let addresses = &status.shards[1].addresses;
    assert!(
        addresses[0].ends_with("mofka.sock.1") && addresses[1].starts_with("tcp://127.0.0.1:"),
        "{addresses:?}"
    );
    assert_eq!(http::get(&status.monitoring.unwrap(), "/readyz", &[]).status, 200);
    assert!(node.terminate().success());
}

/// Runs `mofka-nodes` with a launcher that plays two machines.
fn job(dir: &Path, options: &str, program_text: &str) -> (Option<i32>, String) {
    let script = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let launch = "#!/bin/bash\nfor n in 1 2; do FAKE_HOST=machine$n \"$@\" & done\nwait\n";
    script("launch", launch);
    script(
        "hostname",
        "#!/bin/sh\ncase $1 in -f) echo 127.0.0.1;; *) echo \"$FAKE_HOST\";; esac\n",
    );
    let job = script("job", &format!("#!/bin/bash\nset -e\n{program_text}\n"));
    let bin = program("mofkad");
    let path = format!(
        "{}:{}:{}",
        dir.display(),
        bin.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new(packaging().join("batch/mofka-nodes"))
        .arg("run")
        .arg(dir.join("shared"))
        .args(["--".as_ref(), job.as_os_str()])
        .env("PATH", path)
        .env("LAUNCH", dir.join("launch"))
        .env("MACHINES", "2")
        .env("MOFKA_DATA", dir.join("data"))
        .env("MOFKA_OPTIONS", options)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn directory() -> tempfile::TempDir {
    let base = std::env::current_exe().unwrap().parent().unwrap().join("nodes");
    std::fs::create_dir_all(&base).unwrap();
    tempfile::Builder::new().prefix("job-").tempdir_in(base).unwrap()
}

#[test]
fn a_batch_job_has_a_node_on_each_machine_until_its_program_ends() {
    let dir = directory();
    let use_both =
        "IFS=:; for file in $MOFKA_GROUP_FILES; do cat \"$file\" >/dev/null; echo there; done; exit 7";
    let (code, said) = job(dir.path(), "--shards 1", use_both);
    assert_eq!((code, said.matches("there").count()), (Some(7), 2), "{said}");
    for machine in ["machine1", "machine2"] {
        let own = dir.path().join("shared").join(machine);
        assert_eq!(std::fs::read_to_string(own.join("ended")).unwrap(), "0\n");
        let log = std::fs::read_to_string(own.join("mofkad.log")).unwrap();
        assert!(log.contains("stopped"), "{log}");
        assert!(!dir.path().join("data").join(machine).exists(), "its data goes");
    }
    let (code, said) = job(dir.path(), "--shards none", "echo never");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("a node ended before all were ready") && !said.contains("never"),
        "{said}"
    );
}
