//! The gate's one thread: its epoll loop.

use crate::conn::{Conn, State, Step};
use crate::head::Head;
use crate::limits::{Limits, NEWCOMERS};
use crate::listen::{Trouble, accept_trouble};
use crate::refusal::{MakeRefusal, Refusal, plain_refusal};
use crate::reply::{Letter, Mailbox, Reply, Shared};
use crate::request::{Request, normalised};
use crate::stats::{Counters, Stats};
use crate::stop::Stop;
use crate::table::Table;
use crate::workers::{Handler, Workers};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The front of one daemon. See the crate's documentation.
pub struct Gate {
    limits: Limits,
    handler: Arc<Handler>,
    make_refusal: MakeRefusal,
    is_brief: fn(&Request) -> bool,
    counters: Arc<Counters>,
}

impl Gate {
    /// A gate whose workers run `handler`. It answers through its [`Reply`], now or later.
    pub fn new(limits: Limits, handler: impl Fn(Request, Reply) + Send + Sync + 'static) -> Self {
        Self {
            limits,
            handler: Arc::new(handler),
            make_refusal: plain_refusal,
            is_brief: |_| false,
            counters: Arc::default(),
        }
    }

    /// Lets `make` word what the gate itself answers.
    #[must_use]
    pub fn with_refusals(mut self, make: MakeRefusal) -> Self {
        self.make_refusal = make;
        self
    }

    /// Lets the gate's own thread run the handler for requests of which `is_brief` holds, when nothing else asks for
    /// it: waking a worker costs more than such a request does. The handler must not block for them.
    #[must_use]
    pub fn with_brief(mut self, is_brief: fn(&Request) -> bool) -> Self {
        self.is_brief = is_brief;
        self
    }

    /// Counters to watch while it runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop` is set. Then the listeners close, idle connections too, a half-received request
    /// gets one more second, and requests in work get up to `grace`.
    ///
    /// # Errors
    /// What epoll or the start of a worker says; never for anything that a client does.
    pub fn run(self, listeners: Vec<TcpListener>, stop: &Stop, grace: Duration) -> io::Result<Stats> {
        let counters = self.counters();
        let mut front = Front::start(self, listeners)?;
        let result = front.serve(stop, grace);
        let finished = front.table.len() == 0;
        front.shared.mailbox.close();
        front.workers.stop(finished);
        result.map(|()| counters.snapshot())
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("limits", &self.limits)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

// Tokens of what epoll watches: listeners from 0, connections from FIRST_CONN.
const WAKE: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const FIRST_CONN: u64 = 1 << 16;

/// How often deadlines are looked at; they are seconds, so this is exact enough and needs no timers.
const SWEEP: Duration = Duration::from_millis(200);
/// The same for epoll, in milliseconds.
const SWEEP_MILLIS: u8 = 200;

/// Connections accepted before other events get their turn.
const ACCEPT_BATCH: usize = 64;

/// At shutdown, for a request that has begun to arrive.
const HALF_RECEIVED: Duration = Duration::from_secs(1);

/// Where bytes land first: a usual request and a full body fit into one read.
const SCRATCH: usize = 64 << 10;

/// A running gate.
struct Front {
    limits: Limits,
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    /// No descriptors or memory left: listeners are not watched until then.
    paused_until: Option<Instant>,
    table: Table,
    workers: Workers,
    is_brief: fn(&Request) -> bool,
    /// Nothing else is known to wait for this thread: it has time for a brief request.
    at_leisure: bool,
    shared: Arc<Shared>,
    scratch: Vec<u8>,
    /// When the present round of events began; deadlines are reckoned from it.
    now: Instant,
}

impl Front {
    fn start(gate: Gate, listeners: Vec<TcpListener>) -> io::Result<Self> {
        let Gate { limits, handler, make_refusal, is_brief, counters } = gate;
        let table = Table::new(FIRST_CONN, Arc::clone(&counters));
        // A share of the budget, as these bytes come on top of what the connections hold.
        let mailbox = Mailbox::new(limits.buffered / 4)?;
        let shared = Arc::new(Shared { mailbox, counters, make_refusal });
        let workers = Workers::start(&limits, &handler, &shared)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&shared.mailbox, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        for listener in &listeners {
            listener.set_nonblocking(true)?;
            // Accepted sockets inherit it, which saves a call for each.
            setsockopt(listener, sockopt::TcpNoDelay, &true)?;
        }
        let scratch = vec![0; SCRATCH];
        let now = Instant::now();
        let front = Self {
            limits,
            epoll,
            listeners,
            paused_until: None,
            table,
            workers,
            is_brief,
            at_leisure: false,
            shared,
            scratch,
            now,
        };
        front.watch_listeners()?;
        Ok(front)
    }

    fn serve(&mut self, stop: &Stop, grace: Duration) -> io::Result<()> {
        self.epoll.add(stop.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let mut events = [EpollEvent::empty(); 256];
        let mut letters = Vec::new();
        let mut swept = self.now;
        let mut leave_at = None;
        loop {
            let ready = match self.epoll.wait(&mut events, self.patience(leave_at.is_some())) {
                Ok(n) => n,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            self.now = Instant::now();
            self.at_leisure = ready == 1;
            for event in &events[..ready] {
                match event.data() {
                    WAKE => self.shared.mailbox.quiet(),
                    STOP => {
                        self.epoll.delete(stop.as_fd())?;
                        self.listeners.clear();
                        self.table.hurry(self.now + HALF_RECEIVED);
                        leave_at = Some(self.now + grace);
                    }
                    id if id >= FIRST_CONN => self.advance(id),
                    listener => self.accept(listener),
                }
            }
            self.shared.mailbox.take(&mut letters);
            for letter in letters.drain(..) {
                self.deliver(letter);
            }
            if self.now.duration_since(swept) >= SWEEP {
                swept = self.now;
                self.sweep()?;
            }
            if leave_at.is_some_and(|at| self.table.len() == 0 || self.now >= at) {
                return Ok(());
            }
        }
    }

    /// How long to wait for events: for ever while there is no deadline to look at, so that an idle
    /// daemon costs nothing.
    fn patience(&self, leaving: bool) -> EpollTimeout {
        let idle = self.table.len() == 0 && self.paused_until.is_none() && !leaving;
        if idle { EpollTimeout::NONE } else { SWEEP_MILLIS.into() }
    }

    /// Takes what waits at a listener. Nothing that accept says ends the gate.
    fn accept(&mut self, token: u64) {
        for _ in 0..ACCEPT_BATCH {
            let listener = usize::try_from(token).ok().and_then(|index| self.listeners.get(index));
            let Some(listener) = listener.filter(|_| self.paused_until.is_none()) else { return };
            match listener.accept() {
                Ok((sock, peer)) => self.admit(sock, normalised(peer)),
                Err(error) => match accept_trouble(&error) {
                    Trouble::Nobody => return,
                    Trouble::ThatClient => {}
                    // One that is dropped leaves its descriptor to the next.
                    Trouble::Exhausted if self.table.evict(None) => {}
                    Trouble::Exhausted => return self.pause(&error),
                },
            }
        }
    }

    fn admit(&mut self, sock: TcpStream, peer: SocketAddr) {
        Counters::add(&self.shared.counters.accepted, 1);
        if sock.set_nonblocking(true).is_err() {
            return;
        }
        let mut conn = Conn::new(sock, peer, self.now, &self.limits);
        if !self.makes_room(peer.ip()) {
            self.part_with(&mut conn, Refusal::Busy);
            return;
        }
        let id = self.table.insert(conn);
        // Often the request is there already, and epoll never hears of this connection.
        self.advance(id);
    }

    /// Whether there is room for a newcomer, or some could be made.
    fn makes_room(&mut self, newcomer: IpAddr) -> bool {
        let (open, cap) = (self.table.len(), self.limits.connections);
        open < cap
            || self.table.evict(Some(newcomer))
            || (open < cap + NEWCOMERS && !self.table.knows(newcomer))
    }

    /// Stops accepting for a moment: level-triggered epoll would report the listener without end.
    fn pause(&mut self, error: &io::Error) {
        log::warn!("accept: {error}; pausing for {} ms", SWEEP.as_millis());
        Counters::add(&self.shared.counters.pauses, 1);
        for listener in &self.listeners {
            // Fails only when it is not watched, which is what is wanted.
            let _ = self.epoll.delete(listener);
        }
        self.paused_until = Some(self.now + SWEEP);
    }

    fn watch_listeners(&self) -> io::Result<()> {
        for (token, listener) in (0..).zip(&self.listeners) {
            self.epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        }
        Ok(())
    }

    /// Lets a connection do what it can and sees to what it needs next.
    fn advance(&mut self, id: u64) {
        let Some(conn) = self.table.get_mut(id) else { return };
        match conn.advance(&mut self.scratch, self.now, &self.limits) {
            Step::AwaitInput => self.watch(id, EpollFlags::EPOLLIN),
            Step::AwaitOutput => self.watch(id, EpollFlags::EPOLLOUT),
            Step::AwaitAnswer => {}
            Step::Serve(head, body) => self.submit(id, *head, body),
            Step::Refuse(refusal) => self.refuse(id, refusal),
            Step::Close => drop(self.table.remove(id)),
        }
        self.table.settle(id);
        self.table.slim(self.limits.buffered);
    }

    /// One-shot: after an event the connection is deaf until armed again, which is what Working needs.
    fn watch(&mut self, id: u64, interest: EpollFlags) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let mut event = EpollEvent::new(interest | EpollFlags::EPOLLONESHOT, id);
        let result = match conn.watched {
            true => self.epoll.modify(&conn.sock, &mut event),
            false => self.epoll.add(&conn.sock, event),
        };
        conn.watched = true;
        if let Err(error) = result {
            log::warn!("cannot watch the connection of {}: {error}", conn.peer);
            self.table.remove(id);
        }
    }

    /// Hands a whole request to a worker, if there is room for it.
    fn submit(&mut self, id: u64, head: Head, body: Vec<u8>) {
        self.table.settle(id);
        self.table.slim(self.limits.buffered);
        let Some(conn) = self.table.get_mut(id) else { return };
        conn.until = self.now + self.limits.answer;
        let Ok(local) = conn.sock.local_addr() else {
            self.table.remove(id);
            return;
        };
        let without_body = matches!(conn.state, State::Working { without_body: true, .. });
        let reply = Reply::new(id, without_body, Arc::clone(&self.shared));
        let request = Request::new(head, body, conn.peer, normalised(local));
        let over_budget = self.table.buffered() > self.limits.buffered;
        let turned_away = if over_budget { Err(reply) } else { self.hand_over(request, reply) };
        if let Err(reply) = turned_away {
            reply.retract();
            self.refuse(id, Refusal::Busy);
        }
    }

    /// To a worker, or to the handler in this thread; gives the reply back when no worker has room.
    fn hand_over(&mut self, request: Request, reply: Reply) -> Result<(), Reply> {
        if self.at_leisure && (self.is_brief)(&request) && !self.workers.are_behind() {
            self.at_leisure = false;
            self.workers.run_here(request, reply);
            return Ok(());
        }
        self.workers.submit(request, reply)
    }

    /// A handler's answer: for a connection that still waits for it.
    fn deliver(&mut self, Letter { id, answer, unanswered }: Letter) {
        let Some(conn) = self.table.get_mut(id) else { return };
        if matches!(conn.state, State::Working { .. }) {
            let counters = &self.shared.counters;
            Counters::add(if unanswered { &counters.unanswered } else { &counters.served }, 1);
            conn.begin_answer(answer, self.now + self.limits.write);
            self.table.settle(id);
            self.advance(id);
        }
    }

    /// The gate's own answer. Its client gets little time: it may be hostile.
    fn refuse(&mut self, id: u64, refusal: Refusal) {
        let Some(conn) = self.table.get_mut(id) else { return };
        log::debug!("{} refused with {}: {}", conn.peer, refusal.status(), refusal.reason());
        self.shared.counters.refused(refusal.status());
        let without_body = matches!(conn.state, State::Working { without_body: true, .. });
        let answer = self.shared.refusal(refusal).print(without_body);
        conn.begin_answer(answer, self.now + self.limits.write.min(self.limits.linger));
        self.advance(id);
    }

    /// A refusal for a connection that is not kept.
    fn part_with(&self, conn: &mut Conn, refusal: Refusal) {
        self.shared.counters.refused(refusal.status());
        conn.part_with(&self.shared.refusal(refusal).print(false));
    }

    /// Ends what is overdue, and a pause.
    fn sweep(&mut self) -> io::Result<()> {
        for id in self.table.overdue(self.now) {
            match self.table.get_mut(id).map(|conn| &conn.state) {
                Some(State::Working { .. }) => self.refuse(id, Refusal::Late),
                Some(State::Reading(incoming)) => {
                    let begun = !incoming.is_untouched();
                    Counters::add(&self.shared.counters.expired, 1);
                    if let Some(mut conn) = self.table.remove(id).filter(|_| begun) {
                        self.part_with(&mut conn, Refusal::TooSlow);
                    }
                }
                Some(State::Writing { .. }) => {
                    Counters::add(&self.shared.counters.expired, 1);
                    self.table.remove(id);
                }
                Some(State::Draining { .. }) => drop(self.table.remove(id)),
                None => {}
            }
        }
        if self.paused_until.is_some_and(|until| until <= self.now) {
            self.paused_until = None;
            self.watch_listeners()?;
        }
        Ok(())
    }
}
