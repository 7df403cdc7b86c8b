//! A few threads for work that waits on the network, bounded in all directions.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Threads at most. They start when there is work and end after [`IDLE`] without any.
const THREADS: usize = 4;
/// Jobs that wait for a thread.
const WAITING: usize = 16;
/// Jobs of one source, waiting or in work: a busy neighbour leaves room for the others.
const PER_SOURCE: usize = 4;
/// Reserved; ureq's and serde's frames take about 60 KiB of it.
const STACK: usize = 256 << 10;
const IDLE: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// The threads and what waits for them.
#[derive(Clone, Default)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(IpAddr, Job)>,
    /// One entry for each job that waits or is in work.
    sources: Vec<IpAddr>,
    threads: usize,
    idle: usize,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.lock();
        write!(f, "Pool({} threads, {} jobs)", state.threads, state.sources.len())
    }
}

impl Pool {
    /// Has `job` run for `source` soon; false when there is no room, and then it is gone unrun.
    pub fn submit(&self, source: IpAddr, job: impl FnOnce() + Send + 'static) -> bool {
        let mut state = self.inner.lock();
        let of_source = state.sources.iter().filter(|&&other| other == source).count();
        if state.jobs.len() >= WAITING || of_source >= PER_SOURCE {
            return false;
        }
        if state.idle <= state.jobs.len() && state.threads < THREADS && self.start_thread() {
            state.threads += 1;
        }
        if state.threads == 0 {
            return false;
        }
        state.sources.push(source);
        state.jobs.push_back((source, Box::new(job)));
        drop(state);
        self.inner.ready.notify_one();
        true
    }

    fn start_thread(&self) -> bool {
        let inner = Arc::clone(&self.inner);
        let thread = thread::Builder::new().name("relay".to_owned()).stack_size(STACK);
        thread
            .spawn(move || inner.work())
            .map_err(|error| log::warn!("cannot start a thread: {error}"))
            .is_ok()
    }
}

impl Inner {
    fn work(&self) {
        while let Some((source, job)) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                log::error!("a fault in the agent itself while passing a message on; please report it");
            }
            let mut state = self.lock();
            let place = state.sources.iter().position(|&other| other == source);
            place.map(|place| state.sources.swap_remove(place));
        }
    }

    /// The next job; `None` when this thread is not needed any more.
    fn next(&self) -> Option<(IpAddr, Job)> {
        let mut state = self.lock();
        state.idle += 1;
        let empty = |state: &mut State| state.jobs.is_empty();
        let waited = self.ready.wait_timeout_while(state, IDLE, empty);
        (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.threads -= 1;
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn source(number: u8) -> IpAddr {
        IpAddr::from([10, 9, 0, number])
    }

    #[test]
    fn what_is_too_much_is_refused_at_once_and_the_rest_runs() {
        let pool = Pool::default();
        let (done, results) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let submit = |number| {
            let (done, gate) = (done.clone(), Arc::clone(&gate));
            pool.submit(source(number), move || {
                let _ = gate.lock().unwrap().recv();
                done.send(number).unwrap();
            })
        };
        let greedy = (0..10).filter(|_| submit(1)).count();
        assert_eq!(greedy, PER_SOURCE, "one source does not take all");
        let others = (2..=100).filter(|&number| submit(number)).count();
        assert!((WAITING - PER_SOURCE..=WAITING).contains(&others), "{others}");
        drop(open);
        for _ in 0..greedy + others {
            results.recv_timeout(PATIENCE).unwrap();
        }
    }

    #[test]
    fn a_panic_costs_one_job() {
        let pool = Pool::default();
        for _ in 0..10 {
            while !pool.submit(source(1), || panic!("on purpose")) {
                thread::yield_now();
            }
        }
        let (done, result) = mpsc::channel();
        while !pool.submit(source(1), {
            let done = done.clone();
            move || done.send(()).unwrap()
        }) {
            thread::yield_now();
        }
        result.recv_timeout(PATIENCE).unwrap();
        assert!(pool.inner.lock().threads <= THREADS);
    }
}
