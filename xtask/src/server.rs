//! A server for a task: its process, its memory and its open files.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::error::TaskError;

/// A server that was started.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    command: String,
    address: SocketAddr,
}

/// What the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) at: Duration,
    /// Memory that belongs to no file.
    pub(crate) anonymous_bytes: u64,
    pub(crate) n_files: usize,
}

impl Server {
    /// Starts `apr serve` with the built-in model.
    pub(crate) fn of_builtin(program: &Path) -> Result<Self, TaskError> {
        let mut command = Command::new(program);
        command.args(["serve", "--quiet"]);
        Self::start(command)
    }

    /// Starts a server on a port that is free and waits until it has its model.
    pub(crate) fn start(mut command: Command) -> Result<Self, TaskError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| TaskError::Start {
            command: program.clone(),
            source,
        };
        let free = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = free.local_addr().map_err(failed)?;
        drop(free);
        command
            .args(["--port", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut server = Self {
            child: command.spawn().map_err(failed)?,
            command: format!("{command:?}"),
            address,
        };
        let begin = Instant::now();
        while server
            .get("/health")
            .is_none_or(|(status, _)| status != 200)
        {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(server.wrong(&format!("it ended with {status}")));
            }
            if begin.elapsed() > Duration::from_secs(120) {
                return Err(server.wrong("it is not ready after two minutes"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn wrong(&self, reason: &str) -> TaskError {
        TaskError::Output {
            command: self.command.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Returns status and body of an answer, if there is one.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        let address = self.address;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut rest = String::new();
        reader.read_to_string(&mut rest).ok()?;
        let (_, body) = rest.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// Returns what the process holds, if the system says.
    pub(crate) fn footprint(&self, at: Duration) -> Option<Footprint> {
        let process = self.child.id();
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(Footprint {
            at,
            anonymous_bytes: kib * 1024,
            n_files: fs::read_dir(format!("/proc/{process}/fd")).ok()?.count(),
        })
    }

    /// Whether all slots are free within a second.
    pub(crate) fn comes_to_rest(&self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            let slots = self
                .get("/slots")
                .and_then(|(_, body)| serde_json::from_str(&body).ok());
            let is_busy = |slot: &Value| slot["is_processing"] != false;
            if let Some(Value::Array(slots)) = slots
                && !slots.iter().any(is_busy)
            {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Returns the latency under which `percent` of the values of a histogram lie.
    pub(crate) fn quantile(&self, name: &str, percent: f64) -> Option<f64> {
        let (_, page) = self.get("/metrics")?;
        let bucket = format!("{name}_bucket{{");
        let buckets: Vec<(f64, f64)> = page
            .lines()
            .filter(|line| line.starts_with(&bucket))
            .filter_map(|line| {
                let (label, count) = line.rsplit_once(' ')?;
                let (_, bound) = label.split_once("le=\"")?;
                let bound = bound.split('"').next()?;
                Some((
                    bound.replace("+Inf", "inf").parse().ok()?,
                    count.parse().ok()?,
                ))
            })
            .collect();
        let (_, all) = *buckets.last()?;
        let enough = |(_, count): &&(f64, f64)| *count >= all * percent / 100.0;
        buckets.iter().find(enough).map(|(bound, _)| *bound)
    }

    /// Asks the server to end and waits for it.
    pub(crate) fn stop(mut self) -> Result<(), TaskError> {
        let process = self.child.id().to_string();
        let failed = |source| TaskError::Start {
            command: "kill".to_owned(),
            source,
        };
        Command::new("kill")
            .arg(&process)
            .status()
            .map_err(failed)?;
        let status = self.child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        Err(self.wrong(&format!("it ended with {status}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
