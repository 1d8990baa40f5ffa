//! Builds programs in C and C++ against an installed library, and runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mofka_tests::library::repository;

/// How long a program may take; whatever waits for ever in it is found by that.
const RUN_MAX: Duration = Duration::from_secs(240);

/// What a source is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C,
    Cpp,
}

impl Language {
    fn of(source: &Path) -> Self {
        match source.extension().and_then(|extension| extension.to_str()) {
            Some("c") => Self::C,
            Some("cpp") => Self::Cpp,
            other => panic!("{}: a source in {other:?}?", source.display()),
        }
    }

    fn compiler(self) -> Command {
        let (compiler, standard) = match self {
            Self::C => ("cc", "-std=c11"),
            Self::Cpp => ("c++", "-std=c++17"),
        };
        let mut command = Command::new(compiler);
        command.args([
            standard,
            "-D_POSIX_C_SOURCE=200809L",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-g",
            "-O1",
        ]);
        command
    }
}

/// Where the library of these sources is installed.
pub(crate) fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = place().join("prefix");
        std::fs::remove_dir_all(&prefix).ok();
        // Built for the tests, beside them.
        let tests = std::env::current_exe().unwrap();
        let mut install = Command::new(repository().join("client/c/install"));
        succeed(install.arg(tests.parent().unwrap()).arg(&prefix));
        prefix
    })
}

/// A directory for what the tests build.
pub(crate) fn place() -> PathBuf {
    let place = std::env::current_exe().unwrap().parent().unwrap().join("mofka-c");
    std::fs::create_dir_all(&place).unwrap();
    place
}

/// Whether there is this program.
pub(crate) fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command that has to succeed.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Compiles a text, and throws away what comes out.
pub(crate) fn compile_only(text: &str, language: Language) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir
        .path()
        .join(if language == Language::C { "x.c" } else { "x.cpp" });
    std::fs::write(&source, text).unwrap();
    let root = repository();
    let mut command = language.compiler();
    for include in ["client/c/include", "client/cpp/include", "client/plugins/include"] {
        command.arg("-I").arg(root.join(include));
    }
    succeed(
        command
            .arg("-c")
            .arg(&source)
            .arg("-o")
            .arg(dir.path().join("x.o")),
    );
}

/// A source of the repository.
pub(crate) fn source_of(path: &str) -> PathBuf {
    repository().join(path)
}

/// Builds a source of the repository. With `sanitize`, memory errors, undefined behaviour and leaks end the program.
pub(crate) fn build_program(source: &str, sanitize: bool) -> PathBuf {
    let source = repository().join(source);
    let language = Language::of(&source);
    let kind = source.parent().unwrap().parent().unwrap().file_name().unwrap();
    let name = format!(
        "{}-{}{}",
        kind.to_str().unwrap(),
        source.file_name().unwrap().to_str().unwrap(),
        if sanitize { "-sanitized" } else { "" }
    );
    let program = place().join(name);
    let lib = prefix().join("lib");
    let mut command = language.compiler();
    if sanitize {
        command.args([
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer",
        ]);
    }
    command
        .arg("-I")
        .arg(prefix().join("include"))
        .arg(&source)
        .arg("-L")
        .arg(&lib)
        .arg(format!("-Wl,-rpath,{}", lib.display()))
        .args(["-lmofka_c", "-pthread", "-o"])
        .arg(&program);
    succeed(&mut command);
    program
}

/// Runs a program to its end, which has to be a good one, and gives what it wrote.
pub(crate) fn run(program: &Path, arguments: &[&str], dir: &Path) -> String {
    let stdout = dir.join("program-stdout");
    let stderr = dir.join("program-stderr");
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&stdout).unwrap())
        .stderr(std::fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if started.elapsed() > RUN_MAX {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (out, err) = (read(&stdout), read(&stderr));
    assert!(
        status.is_some_and(|status| status.success()),
        "{} {arguments:?} ended with {status:?} (none: it was killed after {RUN_MAX:?})\n{out}\n{err}",
        program.display()
    );
    out
}
