//! The official `openai` client for Python, unmodified, where it is installed. What it needs of a reply is asserted without it in `shapes` and `streams`.

use std::process::Command;

use super::Running;

#[test]
fn the_official_client_works() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import openai"]).output();
    if !there.is_ok_and(|o| o.status.success()) {
        // printed by `cargo test -- --nocapture`
        let mut err = std::io::stderr();
        let _ = std::io::Write::write_all(
            &mut err,
            b"not run: python3 has no module openai (pip install openai; PYTHON names another python)\n",
        );
        return;
    }
    let server = Running::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client.py");
    let ran = Command::new(&python)
        .arg(script)
        .arg(format!("http://{}/v1", server.address))
        .env_remove("OPENAI_BASE_URL")
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}{}", told(&ran.stdout), told(&ran.stderr));
}
