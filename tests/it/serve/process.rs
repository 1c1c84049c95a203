//! `tts serve` as a program: how it starts, and how it ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::{Reply, chat, connect, read_until, send};

struct Program {
    child: Child,
    address: SocketAddr,
    log: File,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tts"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TTS_")) {
        command.env_remove(name);
    }
    command.arg("serve").args(args);
    command
}

impl Program {
    fn start(command: &mut Command) -> Self {
        // a pipe that nobody reads would stop it
        let log = tempfile::tempfile().unwrap();
        let mut child = command
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("http://")
            .unwrap_or_else(|| panic!("{line}"));
        let address = address.parse().unwrap();
        Self { child, address, log }
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let told = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(told.success());
    }

    /// Waits for its end: exit code and stderr.
    fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut err = String::new();
        self.log.rewind().unwrap();
        self.log.read_to_string(&mut err).unwrap();
        (code, err)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn begin(&self, fields: serde_json::Value) -> TcpStream {
        let mut stream = connect(self.address);
        send(
            &mut stream,
            "/v1/chat/completions",
            &[],
            chat(fields).to_string().as_bytes(),
        );
        stream
    }
}

#[cfg(unix)]
#[test]
fn a_server_that_is_stopped_finishes_what_it_began() {
    for signal in ["-TERM", "-INT"] {
        let program = Program::start(&mut command(&[
            "--threads",
            "1",
            "--strategy",
            "majority",
            "--drain",
            "10m",
        ]));
        let mut running = program.begin(json!({
            "traces": 16, "slots": 8, "ignore_eos": true, "loop_stop": false, "max_tokens": 300,
            "stream": true
        }));
        let mut seen = read_until(&mut running, "traces at most");
        let mut kept = connect(program.address);
        program.signal(signal);
        running.read_to_end(&mut seen).unwrap();
        let events = Reply::parse(&seen).events();
        assert_eq!(
            events.last().unwrap()["tts"]["traces"]["truncated"],
            16,
            "no trace was cut short"
        );
        // a connection that is open but idle is closed, or told that it comes too late
        let _ = kept.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut late = Vec::new();
        let _ = kept.read_to_end(&mut late);
        assert!(late.is_empty() || Reply::parse(&late).status == 503);
        let (code, err) = program.ended();
        assert_eq!(code, Some(0), "{err}");
    }
}

#[cfg(unix)]
#[test]
fn a_server_in_a_hurry_decides_with_what_there_is() {
    let program = Program::start(&mut command(&[
        "--threads",
        "2",
        "--drain",
        "200ms",
        "--traces",
        "512",
        "--strategy",
        "majority",
    ]));
    let mut running = program.begin(json!({ "slots": 8, "ignore_eos": true, "loop_stop": false }));
    let mut watching =
        program.begin(json!({ "slots": 8, "ignore_eos": true, "loop_stop": false, "stream": true }));
    read_until(&mut watching, "traces ended");
    program.signal("-TERM");
    let mut whole = Vec::new();
    running.read_to_end(&mut whole).unwrap();
    let reply = Reply::parse(&whole).ok();
    assert_eq!(reply["tts"]["cut"], "interrupted");
    assert!(reply["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    let (code, err) = program.ended();
    assert_eq!(code, Some(0), "{err}");
}

#[test]
fn keys_stay_out_of_what_it_prints() {
    let key = "a-key-that-nobody-may-see";
    let mut started = command(&["--host", "0.0.0.0"]);
    let program = Program::start(started.env("TTS_API_KEY", key).env("TTS_LOG", "trace"));
    let address = SocketAddr::from(([127, 0, 0, 1], program.address.port()));
    for (sent, status) in [(key, 200), ("a-key-that-is-not-right", 401)] {
        let mut stream = connect(address);
        let bearer = format!("Bearer {sent}");
        send(
            &mut stream,
            "/v1/chat/completions",
            &[("authorization", &bearer)],
            chat(json!({ "traces": 1 })).to_string().as_bytes(),
        );
        assert_eq!(Reply::read(stream).status, status);
    }
    let mut program = program;
    program.child.kill().unwrap();
    let (_, err) = program.ended();
    assert!(!err.is_empty() && !err.contains("a-key-that"), "{err}");
}

#[test]
fn requests_are_logged_in_plain_text_where_nobody_looks_on() {
    let mut started = command(&[
        "--request-log",
        "--threads",
        "1",
        "--traces",
        "1",
        "--max-tokens",
        "8",
    ]);
    let mut program = Program::start(started.env("TTS_LOG", "trace"));
    let mut stream = connect(program.address);
    let body = chat(json!({})).to_string();
    send(&mut stream, "/v1/chat/completions", &[], body.as_bytes());
    let reply = Reply::read(stream).ok();
    program.child.kill().unwrap();
    let (_, err) = program.ended();
    let line = err.lines().find(|line| line.contains("POST")).unwrap();
    let usage = &reply["usage"];
    let tokens = format!(
        " ms, {} + {} tokens",
        usage["prompt_tokens"], usage["completion_tokens"]
    );
    assert!(
        line.contains("Z POST /v1/chat/completions 200 ") && line.ends_with(&tokens),
        "{line}"
    );
    assert!(!err.contains('\u{1b}'), "no colours in a file: {err}");
}

#[test]
fn a_server_stands_behind_another_tts() {
    let server = super::Running::start();
    let url = format!("http://{}/v1", server.address);
    let solve = |strategy: &str, more: &[&str]| {
        let mut solve = Command::new(env!("CARGO_BIN_EXE_tts"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TTS_")) {
            solve.env_remove(name);
        }
        // a name that the server takes and does not list
        solve.args([
            "solve",
            "--backend",
            &url,
            "--backend-model",
            "bundled@majority-1",
        ]);
        solve.args([
            "--traces",
            "8",
            "--strategy",
            strategy,
            "--json",
            "--max-tokens",
            "400",
        ]);
        let ran = solve.args(more).arg(super::PROBLEM).output().unwrap();
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{err}");
        let out = String::from_utf8(ran.stdout).unwrap();
        serde_json::from_str::<serde_json::Value>(out.lines().last().unwrap()).unwrap()
    };
    // its chats carry no log-probabilities of the thinking, which majority does not need; plain completions
    // carry those of every token
    let voted = solve("majority", &[]);
    assert_eq!(
        (&voted["answer"], &voted["traces"]["launched"]),
        (&json!("20"), &json!(8))
    );
    let raw = [
        "--backend-api",
        "completions",
        "--model",
        "bundled",
        "--warmup",
        "4",
        "--window",
        "16",
    ];
    let stopped = solve("deepconf-low", &raw);
    assert_eq!(stopped["answer"], "20");
    assert!(stopped["threshold"].is_number(), "confidences came: {stopped}");
}

#[cfg(unix)]
#[test]
fn keys_that_others_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "correct-horse-battery\n").unwrap();
    for (mode, warned) in [(0o644, true), (0o640, true), (0o600, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut program = Program::start(&mut command(&["--api-key-file", file.to_str().unwrap()]));
        program.child.kill().unwrap();
        let (_, err) = program.ended();
        assert_eq!(
            err.contains("other users of this machine can read it"),
            warned,
            "{mode:o}: {err}"
        );
    }
}

#[test]
fn a_server_that_cannot_be_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("keys");
    std::fs::write(&empty, "# none yet\n").unwrap();
    let empty = empty.to_str().unwrap();
    let cases: [(&[&str], &str); 13] = [
        (&["--host", "0.0.0.0", "--port", "0"], "there is no API key"),
        (&["--port", &port], "cannot be listened on"),
        (&["--host", "example.org"], "it is an IP address"),
        (&["--api-key-file", empty], "holds no API key"),
        (
            &["--api-key-file", "/no/such/file"],
            "--api-key-file /no/such/file cannot be read",
        ),
        (
            &["--traces", "600", "--max-traces", "512"],
            "--traces 600 is more than --max-traces 512",
        ),
        (&["--max-requests", "0"], "--max-requests 0 is out of range"),
        (
            &["--max-choices", "9", "--max-requests", "8"],
            "--max-choices 9 could never run",
        ),
        (&["--served-name", "a@b"], "--served-name"),
        (
            &["--cors", "localhost:3000"],
            "--cors `localhost:3000` is no origin",
        ),
        (&["--cors", "*"], "--cors * lets every page"),
        (&["--unknown-fields", "maybe"], "it is refuse or ignore"),
        (&["--model", "/no/such/model"], "/no/such/model"),
    ];
    for (args, why) in cases {
        let refused = command(args).output().unwrap();
        let err = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains(why), "{args:?}: {err}");
    }
    let refused = command(&[]).env("TTS_API_KEY", "short").output().unwrap();
    let err = String::from_utf8(refused.stderr).unwrap();
    assert!(
        err.contains("TTS_API_KEY: an API key must have at least 16 characters") && !err.contains("short"),
        "{err}"
    );
}
