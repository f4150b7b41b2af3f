//! How many connections there are, and which one makes room for the next.
//!
//! A connection on which no request is under way is idle, also while a head trickles in. When
//! all places are taken, the one that has been idle for longest is closed; so many idle
//! connections keep nobody out. Only if all of them work is a new one turned away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    n_open: usize,
    /// Idle ones by when they became so.
    idle: BTreeMap<u64, Arc<Notify>>,
    n_entered: u64,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    all: Arc<Connections>,
    /// Its key among the idle ones.
    idle_since: Mutex<Option<u64>>,
    close: Arc<Notify>,
}

/// A request under way on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Connection>);

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::default(),
        })
    }

    /// Takes a connection in, and says whether another one has to go for it. `None` if there
    /// is no room and all are busy.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<(Arc<Connection>, bool)> {
        let mut state = self.lock();
        let is_full = state.n_open >= self.most;
        if is_full {
            let (_, close) = state.idle.pop_first()?;
            close.notify_one();
        }
        state.n_open += 1;
        drop(state);
        let connection = Arc::new(Connection {
            all: Arc::clone(self),
            idle_since: Mutex::new(None),
            close: Arc::new(Notify::new()),
        });
        connection.become_idle();
        Some((connection, is_full))
    }

    pub(crate) fn n_open(&self) -> usize {
        self.lock().n_open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Marks the beginning of a request.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        let mut idle_since = self.idle_since();
        if let Some(key) = idle_since.take() {
            self.all.lock().idle.remove(&key);
        }
        Busy(Arc::clone(self))
    }

    /// Waits until the connection has to make room.
    pub(crate) async fn evicted(&self) {
        self.close.notified().await;
    }

    fn become_idle(&self) {
        let mut idle_since = self.idle_since();
        let mut state = self.all.lock();
        state.n_entered += 1;
        let key = state.n_entered;
        state.idle.insert(key, Arc::clone(&self.close));
        *idle_since = Some(key);
    }

    fn idle_since(&self) -> MutexGuard<'_, Option<u64>> {
        self.idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let key = self.idle_since().take();
        let mut state = self.all.lock();
        state.n_open -= 1;
        if let Some(key) = key {
            state.idle.remove(&key);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.become_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(connection: &Connection) -> bool {
        let waiting = connection.evicted();
        tokio::pin!(waiting);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        waiting.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn the_longest_idle_makes_room_and_busy_ones_stay() {
        let all = Connections::new(2);
        let (one, _) = all.enter().unwrap();
        let (two, _) = all.enter().unwrap();
        let busy = one.begin();
        let (three, made_room) = all.enter().unwrap();
        assert!(made_room);
        assert!(!is_evicted(&one) && is_evicted(&two) && !is_evicted(&three));
        drop(two);
        let of_three = three.begin();
        assert!(all.enter().is_none(), "all are busy");
        drop(busy);
        let (_four, _) = all.enter().unwrap();
        assert!(is_evicted(&one));
        drop(of_three);
    }

    #[test]
    fn connections_leave_nothing_behind() {
        let all = Connections::new(4);
        let (one, _) = all.enter().unwrap();
        drop(one.begin());
        drop(one);
        assert_eq!(all.n_open(), 0);
        assert!(all.lock().idle.is_empty());
    }
}
