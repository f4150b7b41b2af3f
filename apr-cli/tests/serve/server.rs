//! A server for a test, and the look at it from outside.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, TcpStream},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::wire::{PATIENCE, Response, get, post, receive, send};

/// What a server may have more when it rests again, in bytes: contexts and the prefix cache,
/// which grow once, and what small bodies leave in the heaps of threads.
const LEFT: u64 = 32 << 20;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_apr");

/// A running `apr serve` with the built-in model.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// Its memory when it had its model and nothing to do.
    resting: Option<u64>,
    /// Reads the log to its end, so that the server never waits for a reader.
    log: Option<thread::JoinHandle<String>>,
}

impl Server {
    /// Starts a server and waits until it has its model.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::of(Command::new(PROGRAM), flags)
    }

    /// Starts a server that can write no byte to a file.
    pub(crate) fn start_on_a_full_disk(flags: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\"", PROGRAM]);
        Self::of(shell, flags)
    }

    fn of(mut command: Command, flags: &[&str]) -> Self {
        let foreign = std::env::vars_os().map(|(name, _)| name);
        for name in foreign.filter(|name| name.to_string_lossy().starts_with("APR_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--port", "0"]).args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let port = port(&mut log);
        let log = thread::spawn(move || {
            let mut text = String::new();
            let _ = log.read_to_string(&mut text);
            text
        });
        let mut server = Self {
            child,
            port,
            resting: None,
            log: Some(log),
        };
        server.wait_until("the model is ready", |server| {
            let asked = server.ask(&get("/health"));
            matches!(asked.status, 200 | 401)
        });
        server.resting = server.anonymous();
        server
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) fn try_ask(&self, request: &[u8]) -> Option<Response> {
        let mut stream = self.connect();
        send(&mut stream, request);
        receive(&mut stream)
    }

    pub(crate) fn ask(&self, request: &[u8]) -> Response {
        self.try_ask(request).expect("an answer")
    }

    /// Posts JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.ask(&post(path, body.to_string().as_bytes()))
    }

    /// Posts JSON and returns that of the answer, which must be good.
    pub(crate) fn good(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body);
        assert_eq!(response.status, 200, "{}", response.body);
        response.json()
    }

    pub(crate) fn slots_in_use(&self) -> usize {
        let slots = self.ask(&get("/slots")).json();
        let slots = slots.as_array().unwrap().iter();
        slots.filter(|slot| slot["is_processing"] == true).count()
    }

    /// Returns a number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.ask(&get("/metrics")).body;
        let line = page
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let value = line.and_then(|line| line.rsplit(' ').next()).unwrap();
        value.parse().unwrap()
    }

    /// Returns the open files of the process.
    pub(crate) fn n_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// Returns the memory of the process that is not its files, in bytes.
    pub(crate) fn anonymous(&self) -> Option<u64> {
        self.status("RssAnon")
    }

    /// Returns the most memory that the process ever had, in bytes.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.status("VmHWM")
    }

    fn status(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib << 10)
    }

    /// Waits for something that must come, and says what if it does not.
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the server is as it was: healthy, with free slots, an empty queue, no more
    /// open files than `n_files`, and its resting memory.
    pub(crate) fn rest(&self, after: &str, n_files: usize) {
        self.wait_until(&format!("it is healthy after {after}"), |server| {
            server.ask(&get("/health")).status == 200
        });
        self.wait_until(&format!("slots are free after {after}"), |server| {
            server.slots_in_use() == 0 && server.metric("apr_requests_waiting") == 0.0
        });
        self.wait_until(&format!("files are closed after {after}"), |server| {
            server.n_files() <= n_files
        });
        self.wait_until(&format!("memory is given back after {after}"), |server| {
            let now = server.anonymous();
            now.zip(server.resting)
                .is_none_or(|(now, resting)| now <= resting + LEFT)
        });
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for the end, and returns how it was and the log.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let log = self.log.take().unwrap().join().unwrap();
        (status, log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the one line that says where the server listens.
fn port(log: &mut BufReader<ChildStderr>) -> u16 {
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let port = line.trim().strip_prefix("listening on http://127.0.0.1:");
    port.and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("{line}"))
}
