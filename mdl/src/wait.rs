//! Waiting for a lock without holding up everybody else for ever.
//!
//! Who waits for a lock that others need, too, makes them wait behind him. Such a lock is asked
//! for in attempts of a few seconds. If one fails, the wait goes on without a request until those
//! who held it up are done.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::holders::Holders;
use crate::kept::KeptSession;
use crate::session::{Session, SessionError, string_literal};

/// Longest wait for a lock that the server knows: a year.
const FOR_EVER: Duration = Duration::from_secs(31_536_000);

/// Longest attempt at a lock whose waiting holds up others.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Longest pause between attempts; shorter if those who held up the last one end earlier.
const PAUSE: Duration = Duration::from_secs(60);

/// Pause after an attempt that nobody known held up.
const BLIND_PAUSE: Duration = Duration::from_secs(10);

/// How often a user lock is asked for, in seconds: the server's own wait can be ended by nobody.
const USER_LOCK_ATTEMPT: f64 = 0.2;

/// How often somebody looks on.
const TICK: Duration = Duration::from_millis(200);

pub(crate) const ER_LOCK_WAIT_TIMEOUT: u16 = 1205;

/// What happens while a lock is waited for.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// The wait goes on: said several times a second.
    Waiting,
    /// The attempt was given up, so that others can go on; it is repeated later.
    SteppedBack(&'a Holders),
}

/// A wait in progress.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    /// The statement that asks for the lock.
    pub statement: &'a str,
    /// Since when.
    pub waited: Duration,
    /// The user lock that it asks for, if it is one.
    user_lock: Option<&'a str>,
}

impl Wait<'_> {
    /// Asks the server who may hold it up.
    ///
    /// # Errors
    ///
    /// [`SessionError`]
    pub fn holders(&self, session: &mut Session) -> Result<Holders, SessionError> {
        match self.user_lock {
            Some(name) => Holders::of_user_lock(session, name),
            None => Holders::read(session),
        }
    }
}

/// Told of each notice, with a session to ask; ends the wait by breaking.
pub type Onlooker<'a> = dyn FnMut(&mut Session, &Wait<'_>, Notice<'_>) -> ControlFlow<()> + 'a;

/// Who looks on while a lock is waited for.
pub struct Watch<'a> {
    session: &'a mut Session,
    onlooker: Box<Onlooker<'a>>,
}

impl<'a> Watch<'a> {
    /// Calls `onlooker` with `session`.
    pub fn new(session: &'a mut Session, onlooker: Box<Onlooker<'a>>) -> Self {
        Self { session, onlooker }
    }

    /// Waits on.
    pub fn silent(session: &'a mut Session) -> Self {
        Self::new(session, Box::new(|_, _, _| ControlFlow::Continue(())))
    }

    /// `None` where the server does not answer, which is noticed by those who need it.
    fn holders(&mut self, wait: &Wait<'_>) -> Option<Holders> {
        wait.holders(self.session).ok()
    }

    fn notify(&mut self, wait: &Wait<'_>, notice: Notice<'_>) -> ControlFlow<()> {
        (self.onlooker)(self.session, wait, notice)
    }
}

/// How a lock is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nobody else is held up.
    Quiet,
    /// Others wait behind it.
    InTheWay,
}

/// Runs `sql` on `session`, which waits for a lock, at most `patience`. Returns for how long the
/// lock was asked for: without the pauses, in which nobody waited behind it.
///
/// # Errors
///
/// [`SessionError::LockTimeout`] names who held it up.
pub(crate) fn acquire(
    session: &KeptSession,
    sql: &str,
    manner: Manner,
    patience: Option<Duration>,
    watch: &mut Watch<'_>,
) -> Result<Duration, SessionError> {
    let begun = Instant::now();
    let mut asked = Duration::ZERO;
    let longest = match manner {
        Manner::Quiet => FOR_EVER,
        Manner::InTheWay => ATTEMPT,
    };
    loop {
        let left = patience.map(|patience| patience.saturating_sub(begun.elapsed()));
        let attempt = left.unwrap_or(FOR_EVER).min(longest);
        let seconds = attempt.as_millis().div_ceil(1000).max(1);
        session.run(&format!("SET SESSION lock_wait_timeout={seconds}"))?;
        let attempt_begun = Instant::now();
        let pending = session.begin(sql)?;
        let result = loop {
            if let Some(result) = pending.wait_for(TICK) {
                break result;
            }
            let wait = Wait { statement: sql, waited: begun.elapsed(), user_lock: None };
            if watch.notify(&wait, Notice::Waiting).is_break() {
                return Err(give_up(session, sql, watch));
            }
        };
        asked += attempt_begun.elapsed();
        match result {
            Err(error) if error.code() == Some(ER_LOCK_WAIT_TIMEOUT) => {}
            other => return other.map(|_| asked),
        }
        let waited = begun.elapsed();
        let wait = Wait { statement: sql, waited, user_lock: None };
        let holders = watch.holders(&wait).unwrap_or_default();
        if patience.is_some_and(|patience| waited >= patience) {
            return Err(SessionError::lock_timeout(sql, waited, holders));
        }
        let told = watch.notify(&wait, Notice::SteppedBack(&holders));
        if told.is_break() || pause(&wait, &holders, patience, watch).is_break() {
            return Err(give_up(session, sql, watch));
        }
    }
}

/// Takes the user lock `name` for `session`, waiting at most `patience`.
///
/// # Errors
///
/// [`SessionError::LockTimeout`] names who has it.
pub(crate) fn acquire_user_lock(
    session: &mut Session,
    name: &str,
    patience: Option<Duration>,
    watch: &mut Watch<'_>,
) -> Result<(), SessionError> {
    let begun = Instant::now();
    let literal = string_literal(name);
    let statement = format!("GET_LOCK({literal})");
    while session.query_value(&format!("SELECT GET_LOCK({literal}, {USER_LOCK_ATTEMPT})"))? != "1" {
        let waited = begun.elapsed();
        let wait = Wait { statement: &statement, waited, user_lock: Some(name) };
        if patience.is_some_and(|patience| waited >= patience) {
            let holders = watch.holders(&wait).unwrap_or_default();
            return Err(SessionError::lock_timeout(&statement, waited, holders));
        }
        if watch.notify(&wait, Notice::Waiting).is_break() {
            return Err(SessionError::gave_up(&statement));
        }
    }
    Ok(())
}

/// Waits until the statements in `holders` have ended.
fn pause(
    wait: &Wait<'_>,
    holders: &Holders,
    patience: Option<Duration>,
    watch: &mut Watch<'_>,
) -> ControlFlow<()> {
    let begun = Instant::now();
    let longest = if holders.sessions.is_empty() { BLIND_PAUSE } else { PAUSE };
    // An attempt must be left.
    let left = patience.map_or(longest, |patience| patience.saturating_sub(wait.waited + ATTEMPT));
    while begun.elapsed() < longest.min(left) {
        std::thread::sleep(TICK);
        let wait = Wait { waited: wait.waited + begun.elapsed(), ..*wait };
        watch.notify(&wait, Notice::Waiting)?;
        // Unknown holders are as good as those who hold on.
        let Some(now) = watch.holders(&wait) else { continue };
        let same = |old: &crate::holders::Holder| {
            now.sessions.iter().any(|new| (new.id, new.query_id) == (old.id, old.query_id))
        };
        if !holders.sessions.is_empty() && !holders.sessions.iter().any(same) {
            break;
        }
    }
    ControlFlow::Continue(())
}

/// The server does not notice by itself that nobody waits any more.
fn give_up(session: &KeptSession, sql: &str, watch: &mut Watch<'_>) -> SessionError {
    // If that fails, the connection is gone already.
    let _ = watch.session.execute(&format!("KILL {}", session.connection_id()));
    SessionError::gave_up(sql)
}
