//! How many streams read at a time: more while it pays, fewer when the server turns them away.
//! Pure decisions; moments are handed in.
//!
//! Servers differ. One caps the rate of each connection, so that every further one brings more; one
//! has a single bottleneck, which a few fill; one refuses beyond a number. Which it is shows only in
//! what comes:
//!
//! ```text
//! Opening ─► Measuring ─► paid, or nothing known yet ─► more streams ─► Opening ─► …
//!                      └► not paid ─► as many as before ─► Resting ─► Measuring ─► …
//! a try that failed ─► as many as the server serves now ─► Resting
//!   (not the first after bytes that came: that is the network's doing)
//! ```
//!
//! Nothing here ends a stream: one that is too many takes no next segment.

use std::time::{Duration, Instant};

/// Streams to begin with. Where each is capped, one that begins late ends late: growing from four
/// to eight costs a twentieth of the time that a head of 600 MB takes.
const FIRST: usize = 8;

/// Time over which a rate is measured: long enough for several chunks of each stream. Over half of
/// it, bursts have been taken for rates.
const WINDOW: Duration = Duration::from_millis(100);

/// The longest that streams which never delivered are waited for before a rate is measured.
const SETTLE: Duration = Duration::from_secs(1);

/// The part of what more streams could bring that they must bring.
const WORTH: f64 = 0.1;

/// Time until growth is tried again after it did not pay; doubled each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What one stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// It has no segment.
    #[default]
    Idle,
    /// It has one, and nothing has come since it was idle.
    Opening,
    /// Its bytes come.
    Delivering,
    /// Its bytes came, and then a try failed: networks break, whatever a server serves.
    Stumbled,
    /// A try has failed where nothing had come, or again.
    Waiting,
}

/// The number of streams that may read, and what it is judged by.
#[derive(Debug)]
pub(super) struct Width {
    most: usize,
    allowed: usize,
    /// Streams that have a segment; of them, those that are opening or waiting.
    working: usize,
    opening: usize,
    waiting: usize,
    phase: Phase,
    pause: Duration,
    /// Whether any try has failed: growth goes by one stream then, and no longer by doubling.
    refused: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// More streams were allowed, and some have not delivered yet.
    Opening {
        since: Option<Instant>,
        before: Option<Before>,
    },
    Measuring {
        since: Instant,
        bytes: u64,
        before: Option<Before>,
    },
    /// No growth is tried yet.
    Resting {
        until: Instant,
    },
    /// There is no more to be had.
    Full,
}

/// What fewer streams brought.
#[derive(Debug, Clone, Copy)]
struct Before {
    allowed: usize,
    rate: f64,
}

impl Width {
    /// Of at most so many streams.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            allowed: most.min(FIRST),
            working: 0,
            opening: 0,
            waiting: 0,
            phase: Phase::Opening { since: None, before: None },
            pause: PAUSE,
            refused: false,
        }
    }

    /// Streams that could begin now.
    pub(super) fn room(&self) -> usize {
        self.allowed.saturating_sub(self.working)
    }

    /// A stream asks for its next segment, or its first: whether it may have one. It is idle if not.
    pub(super) fn admit(&mut self, stream: &mut State) -> bool {
        let admitted = match stream {
            State::Idle => self.working < self.allowed,
            _ => self.working <= self.allowed,
        };
        match (admitted, *stream) {
            (true, State::Idle) => {
                self.working += 1;
                self.set(stream, State::Opening);
            }
            (true, _) => {}
            (false, _) => self.leave(stream),
        }
        admitted
    }

    /// A stream has no segment any more.
    pub(super) fn leave(&mut self, stream: &mut State) {
        self.working -= usize::from(*stream != State::Idle);
        self.set(stream, State::Idle);
    }

    /// A stream's try has failed. Unless its bytes were coming, the server serves no more than the
    /// others for now.
    pub(super) fn failed(&mut self, stream: &mut State, now: Instant) {
        if *stream == State::Delivering {
            return self.set(stream, State::Stumbled);
        }
        self.set(stream, State::Waiting);
        self.refused = true;
        self.allowed = self.allowed.min(self.served());
        let tried = matches!(
            self.phase,
            Phase::Opening { before: Some(_), .. } | Phase::Measuring { before: Some(_), .. }
        );
        self.rest(tried, now);
    }

    /// Bytes have come.
    pub(super) fn received(&mut self, stream: &mut State, bytes: u64, now: Instant) {
        if *stream == State::Waiting {
            self.set(stream, State::Delivering);
            // What the server serves at a time, it may be asked for.
            self.allowed = self.allowed.max(self.served()).min(self.most);
        }
        self.set(stream, State::Delivering);
        self.phase = match self.phase {
            Phase::Opening { since, before } => {
                let since = since.unwrap_or(now);
                let opened = self.opening == 0 && self.working >= self.allowed;
                match opened || now.saturating_duration_since(since) >= SETTLE {
                    true => Phase::Measuring { since: now, bytes: 0, before },
                    false => Phase::Opening { since: Some(since), before },
                }
            }
            Phase::Measuring { since, bytes: so_far, before } => {
                let (bytes, time) = (so_far + bytes, now.saturating_duration_since(since));
                if time >= WINDOW {
                    return self.judge(bytes as f64 / time.as_secs_f64(), before, now);
                }
                Phase::Measuring { since, bytes, before }
            }
            Phase::Resting { until } if now >= until && self.waiting == 0 => {
                Phase::Measuring { since: now, bytes: 0, before: None }
            }
            resting => resting,
        };
    }

    /// A rate was measured: more streams, or as many as before.
    fn judge(&mut self, rate: f64, before: Option<Before>, now: Instant) {
        if let Some(before) = before {
            let hoped = self.allowed as f64 / before.allowed as f64 - 1.0;
            if rate < before.rate * (1.0 + WORTH * hoped) {
                self.allowed = before.allowed;
                return self.rest(true, now);
            }
            self.pause = PAUSE;
        }
        if self.allowed >= self.most {
            self.phase = Phase::Full;
            return;
        }
        let before = Some(Before { allowed: self.allowed, rate });
        let more = if self.refused { 1 } else { self.allowed };
        self.allowed = (self.allowed + more).min(self.most);
        self.phase = Phase::Opening { since: Some(now), before };
    }

    /// No growth for a while; longer each time that it was tried for nothing.
    fn rest(&mut self, tried: bool, now: Instant) {
        if tried {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.phase = Phase::Resting { until: now + self.pause };
    }

    /// Streams that the server serves; at least one must go on asking.
    fn served(&self) -> usize {
        (self.working - self.waiting).max(1)
    }

    fn set(&mut self, stream: &mut State, to: State) {
        self.opening -= usize::from(*stream == State::Opening);
        self.waiting -= usize::from(*stream == State::Waiting);
        self.opening += usize::from(to == State::Opening);
        self.waiting += usize::from(to == State::Waiting);
        *stream = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: f64 = 1e6;
    const STEP: Duration = Duration::from_millis(5);
    /// Time until a stream's first bytes, in steps.
    const LATENCY: u32 = 6;
    /// Time until a failed try is made again, in steps.
    const WAIT: u32 = 200;

    /// A server as a client sees it.
    struct Server {
        /// Bytes a second of each connection, and of all together.
        each: f64,
        all: f64,
        /// Connections that are served at a time.
        serves: usize,
        /// Steps in which every connection breaks.
        breaks: Vec<u32>,
    }

    impl Default for Server {
        fn default() -> Self {
            Self { each: 40.0 * MB, all: f64::INFINITY, serves: usize::MAX, breaks: Vec::new() }
        }
    }

    #[derive(Clone, Copy, Default)]
    struct Stream {
        state: State,
        left: f64,
        asleep: u32,
        served: bool,
    }

    /// What came of a scan.
    struct Run {
        seconds: f64,
        /// Streams that were served, by step.
        served: Vec<usize>,
        refusals: usize,
    }

    impl Run {
        /// Streams that were served on average between two moments.
        fn between(&self, from: f64, to: f64) -> f64 {
            let step = |at: f64| ((at / STEP.as_secs_f64()) as usize).min(self.served.len());
            let part = &self.served[step(from)..step(to)];
            part.iter().sum::<usize>() as f64 / part.len() as f64
        }
    }

    fn run(server: &Server, most: usize, bytes: f64) -> Run {
        let (mut width, start) = (Width::new(most), Instant::now());
        let mut streams = vec![Stream::default(); most];
        let (mut rest, mut run) = (bytes, Run { seconds: 0.0, served: vec![], refusals: 0 });
        for step in 0.. {
            let now = start + STEP * step;
            for at in 0..most {
                let mut stream = streams[at];
                if stream.left <= 0.0 {
                    let idle = stream.state == State::Idle;
                    if rest <= 0.0 {
                        width.leave(&mut stream.state);
                        stream.served = false;
                    } else if width.admit(&mut stream.state) {
                        stream.left = rest.min(16.0 * MB);
                        rest -= stream.left;
                        stream.asleep = if idle { LATENCY } else { 0 };
                    } else {
                        stream.served = false;
                    }
                }
                streams[at] = stream;
                let served = streams.iter().filter(|stream| stream.served).count();
                let stream = &mut streams[at];
                stream.asleep = stream.asleep.saturating_sub(1);
                if server.breaks.contains(&step) {
                    stream.served = false;
                }
                if stream.left <= 0.0 || stream.asleep > 0 || stream.served {
                    continue;
                }
                if served < server.serves && !server.breaks.contains(&step) {
                    stream.served = true;
                } else {
                    run.refusals += 1;
                    width.failed(&mut stream.state, now);
                    stream.asleep = WAIT;
                }
            }
            let served = streams.iter().filter(|stream| stream.served).count();
            run.served.push(served);
            let rate = server.each.min(server.all / served as f64);
            for stream in streams.iter_mut().filter(|s| s.served && s.left > 0.0) {
                let chunk = rate * STEP.as_secs_f64();
                stream.left -= chunk;
                width.received(&mut stream.state, chunk as u64, now);
            }
            run.seconds += STEP.as_secs_f64();
            assert!(run.seconds < 1e4, "it does not end");
            if rest <= 0.0 && streams.iter().all(|stream| stream.left <= 0.0) {
                break;
            }
        }
        run
    }

    #[test]
    fn all_streams_are_used_where_each_is_throttled() {
        let server = Server::default();
        let one = run(&server, 1, 640.0 * MB).seconds;
        for (most, times) in [(2, 1.95), (4, 3.9), (8, 7.6)] {
            let all = run(&server, most, 640.0 * MB);
            assert!(one / all.seconds > times, "{most}: {}", one / all.seconds);
        }
        let many = run(&server, 64, 6400.0 * MB);
        assert!(many.served.contains(&64), "{:?}", many.served);
    }

    #[test]
    fn no_more_are_used_than_fill_the_line() {
        let server = Server { all: 100.0 * MB, ..Server::default() };
        let found = run(&server, 64, 20_000.0 * MB);
        assert!(found.seconds < 205.0, "{}", found.seconds);
        let used = found.between(1.0, 200.0);
        assert!(used < 9.0, "{used}");
    }

    #[test]
    fn a_server_that_turns_streams_away_gets_as_many_as_it_serves() {
        for serves in [1, 2, 3, 5, 7] {
            let server = Server { serves, ..Server::default() };
            let found = run(&server, 8, 8000.0 * MB);
            let least = 8000.0 / 40.0 / serves as f64;
            assert!(found.seconds < 1.1 * least + 3.0, "{serves}: {} {least}", found.seconds);
            // The segments that were taken at first are seen through; the rest are tries whether it
            // serves more by now.
            assert!(found.refusals < 50, "{serves}: {}", found.refusals);
        }
    }

    #[test]
    fn after_a_break_of_all_the_number_comes_back() {
        let server = Server { breaks: vec![200], ..Server::default() };
        let found = run(&server, 8, 3200.0 * MB);
        assert_eq!(found.refusals, 8);
        assert!(found.between(3.0, 9.0) > 7.5, "{:?}", found.served);
    }

    #[test]
    fn a_line_that_grows_wider_is_noticed() {
        // Twenty seconds of a narrow line, then a wide one: what is tried for nothing is tried again.
        let start = Instant::now();
        let (mut width, mut streams) = (Width::new(16), [State::Idle; 16]);
        let mut used = Vec::new();
        for step in 0..12_000u32 {
            let now = start + STEP * step;
            for stream in &mut streams {
                width.admit(stream);
            }
            let working = width.working as f64;
            let all = if step < 4_000 { 100.0 * MB } else { f64::INFINITY };
            let rate = (40.0 * MB).min(all / working);
            for stream in streams.iter_mut().filter(|stream| **stream != State::Idle) {
                width.received(stream, (rate * STEP.as_secs_f64()) as u64, now);
            }
            used.push(width.working);
        }
        assert!(used[3_000..4_000].iter().filter(|&&used| used > 8).count() < 100);
        assert_eq!(used.last(), Some(&16));
    }

    #[test]
    fn one_stream_always_goes_on() {
        let (mut width, now) = (Width::new(8), Instant::now());
        let mut streams = [State::Idle; 8];
        let begun = streams.iter_mut().filter_map(|stream| width.admit(stream).then_some(()));
        assert_eq!(begun.count(), FIRST);
        for stream in streams.iter_mut().filter(|stream| **stream != State::Idle) {
            width.failed(stream, now);
        }
        assert_eq!((width.allowed, width.room()), (1, 0));
        for stream in &mut streams {
            width.leave(stream);
        }
        assert_eq!((width.room(), width.waiting, width.opening), (1, 0, 0));
    }
}
