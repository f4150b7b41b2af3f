//! When the server is to end: SIGTERM, Ctrl-C, or because there is nothing to serve.

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::{error, terminal};

/// Ends the server when it is dropped.
#[derive(Debug)]
pub(super) struct Switch {
    _sender: oneshot::Sender<()>,
}

/// Makes a switch and what hears of it.
pub(super) fn switch() -> (Switch, oneshot::Receiver<()>) {
    let (sender, dropped) = oneshot::channel();
    (Switch { _sender: sender }, dropped)
}

/// Waits until the server is to end. A second signal then ends the program at once.
pub(super) async fn requested(dropped: oneshot::Receiver<()>) {
    let (Some(mut terminate), Some(mut interrupt)) = (
        handled(SignalKind::terminate()),
        handled(SignalKind::interrupt()),
    ) else {
        // Signals end the program at once then, which was said.
        let _ = dropped.await;
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = dropped => return,
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(i32::from(error::INTERRUPTED));
    });
}

fn handled(kind: SignalKind) -> Option<Signal> {
    match signal(kind) {
        Ok(signal) => Some(signal),
        Err(error) => {
            terminal::say(format_args!("note: signals cannot be handled: {error}"));
            None
        }
    }
}
