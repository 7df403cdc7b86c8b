//! The threads that run the handler.

use crate::limits::Limits;
use crate::reply::{Reply, Shared};
use crate::request::Request;
use crate::stats::Counters;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// What answers requests.
pub(crate) type Handler = dyn Fn(Request, Reply) + Send + Sync;

/// Reserved, not used: only touched pages count. Handlers run SQLite and serde_json.
const STACK: usize = 1 << 20;

/// A bounded queue of requests and the threads that serve it.
pub(crate) struct Workers {
    queue: Arc<Queue>,
    handler: Arc<Handler>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Request, Reply)>,
    /// Workers asleep that no job has been promised to; only those are worth a wake-up.
    idle: usize,
    closed: bool,
}

impl Workers {
    pub(crate) fn start(limits: &Limits, handler: &Arc<Handler>, shared: &Arc<Shared>) -> io::Result<Self> {
        let queue = Queue { state: Mutex::default(), ready: Condvar::new(), capacity: limits.queue.max(1) };
        let mut workers = Self {
            queue: Arc::new(queue),
            handler: Arc::clone(handler),
            shared: Arc::clone(shared),
            threads: Vec::with_capacity(limits.workers),
        };
        for n in 0..limits.workers.max(1) {
            let (queue, handler, shared) =
                (Arc::clone(&workers.queue), Arc::clone(handler), Arc::clone(shared));
            let work = move || {
                while let Some((request, reply)) = queue.next() {
                    run(&*handler, request, reply, &shared.counters);
                    shared.mailbox.wait_for_room();
                }
            };
            workers.threads.push(Builder::new().name(format!("worker-{n}")).stack_size(STACK).spawn(work)?);
        }
        Ok(workers)
    }

    /// Hands a request over, or gives its reply back when the queue is full.
    pub(crate) fn submit(&self, request: Request, reply: Reply) -> Result<(), Reply> {
        let mut state = self.queue.lock();
        if state.jobs.len() >= self.queue.capacity {
            return Err(reply);
        }
        state.jobs.push_back((request, reply));
        if state.idle > 0 {
            state.idle -= 1;
            drop(state);
            self.queue.ready.notify_one();
        }
        Ok(())
    }

    /// Whether requests wait for a worker.
    pub(crate) fn are_behind(&self) -> bool {
        !self.queue.lock().jobs.is_empty()
    }

    /// Runs the handler in the thread that calls.
    pub(crate) fn run_here(&self, request: Request, reply: Reply) {
        run(&*self.handler, request, reply, &self.shared.counters);
    }

    /// Ends the threads after the handlers that run now. With `wait` it also waits for them; without, one that
    /// hangs in a handler is left behind.
    pub(crate) fn stop(mut self, wait: bool) {
        self.queue.close();
        for thread in self.threads.drain(..).filter(|_| wait) {
            // A worker catches its handler's panics, so there is no other result to look at.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Queue {
    /// The next job; waits for one. `None` when the queue is closed.
    fn next(&self) -> Option<(Request, Reply)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let left = std::mem::take(&mut state.jobs);
        drop(state);
        drop(left); // outside the lock: each reply answers 500
        self.ready.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A panic costs the client a 500 (its reply is dropped while unwinding) and the daemon nothing.
fn run(handler: &Handler, request: Request, reply: Reply, counters: &Counters) {
    let name = format!("{} {}", request.method, request.path);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| handler(request, reply))) {
        Counters::add(&counters.panics, 1);
        let text = panic.downcast_ref::<&str>().copied();
        let text =
            text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        log::error!("handler of {name} panicked: {text}");
    }
}
