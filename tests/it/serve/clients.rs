//! Clients that others wrote, unmodified: OpenAI's own for Python, and curl.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Reply, Running, chat};

/// The client that the server is held to.
const OPENAI: &str = "openai==3.54.0";
/// Time to make it ready in, all in all.
const INSTALLING: Duration = Duration::from_secs(90);

/// Says why a test was not run, where everybody sees it.
fn skipped(why: &str) {
    // not by a macro: the test harness keeps those to itself
    let _ = writeln!(std::io::stderr(), "\nNOT RUN: {why}");
}

/// Runs a command to its end, or for so long.
fn within(command: &mut Command, until: Instant) -> Result<(), String> {
    let mut log = tempfile::tempfile().map_err(|e| e.to_string())?;
    let clone = || log.try_clone().map(Stdio::from).map_err(|e| e.to_string());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(clone()?)
        .stderr(clone()?)
        .spawn()
        .map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => {
                use std::io::{Read, Seek};
                let mut said = Vec::new();
                let _ = log.rewind().and_then(|()| log.read_to_end(&mut said));
                let said = String::from_utf8_lossy(&said);
                return Err(said
                    .lines()
                    .rfind(|l| !l.trim().is_empty())
                    .unwrap_or("it failed")
                    .to_owned());
            }
            None if Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it took longer than {} s", INSTALLING.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A Python that has the client: the one that PYTHON names, else one of our own in the target folder, made
/// the first time.
fn python() -> Result<PathBuf, String> {
    if let Ok(named) = std::env::var("PYTHON") {
        let named = PathBuf::from(named);
        within(
            Command::new(&named).args(["-c", "import openai"]),
            Instant::now() + INSTALLING,
        )?;
        return Ok(named);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(OPENAI.replace("==", "-"));
    let python = folder.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    let ready = folder.join("ready");
    if !ready.exists() {
        let until = Instant::now() + INSTALLING;
        // one that was made by half
        let _ = fs::remove_dir_all(&folder);
        within(Command::new("python3").args(["-m", "venv"]).arg(&folder), until)?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--retries",
            "1",
            "--timeout",
            "15",
        ];
        within(Command::new(&python).args(pip).arg(OPENAI), until)?;
        File::create(&ready).map_err(|e| e.to_string())?;
    }
    Ok(python)
}

#[test]
fn the_official_client_works() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            return skipped(&format!(
                "the official client needs python3 with venv and pip, and {OPENAI} from an index ({why}); \
                 PYTHON names one that has it"
            ));
        }
    };
    let server = Running::start();
    let ran = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client.py"))
        .arg(format!("http://{}/v1", server.address))
        .env_remove("OPENAI_BASE_URL")
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}{}", told(&ran.stdout), told(&ran.stderr));
}

/// What curl prints when it asks this; head and body.
fn curl(server: &Running, request: &Value) -> Reply {
    let ran = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--no-buffer",
            "--include",
            "--noproxy",
            "*",
            "--max-time",
            "120",
        ])
        .arg(format!("http://{}/v1/chat/completions", server.address))
        .args([
            "-H",
            "Content-Type: application/json",
            "-H",
            "Authorization: Bearer any",
            "-d",
        ])
        .arg(request.to_string())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    // it puts a chunked body together and shows the head as it came
    let text = String::from_utf8(ran.stdout)
        .unwrap()
        .replace("transfer-encoding: chunked\r\n", "");
    Reply::parse(text.as_bytes())
}

#[test]
fn curl_works() {
    if Command::new("curl").arg("--version").output().is_err() {
        return skipped("there is no curl");
    }
    let server = Running::start();
    for traces in [1, 4] {
        let mut request = chat(json!({ "traces": traces }));
        let whole = curl(&server, &request).ok();
        request["stream"] = json!(true);
        let events = curl(&server, &request).events();
        let parts = events.iter().flat_map(|e| e["choices"].as_array().unwrap());
        let content: String = parts.filter_map(|c| c["delta"]["content"].as_str()).collect();
        assert_eq!(
            content,
            whole["choices"][0]["message"]["content"].as_str().unwrap()
        );
        assert_eq!(events.last().unwrap()["tts"]["digest"], whole["tts"]["digest"]);
        assert_eq!(whole["tts"]["traces"]["launched"], traces);
    }
    curl(&server, &json!({ "messages": 5 })).refusal(400);
}
