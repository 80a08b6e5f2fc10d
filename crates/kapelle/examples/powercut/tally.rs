//! What all cuts came to, as a table.

use std::fmt;
use std::time::{Duration, Instant};

use crate::life::Lived;

/// All lives together.
pub(crate) struct Tally {
    begun: Instant,
    known: u64,
    recovering: u64,
    /// Cuts that lost something.
    lost: u64,
    repeated: u64,
    wrong: u64,
    ended: u64,
    clones: Vec<Duration>,
    compares: Vec<Duration>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            known: 0,
            recovering: 0,
            lost: 0,
            repeated: 0,
            wrong: 0,
            ended: 0,
            clones: Vec::new(),
            compares: Vec::new(),
        }
    }
}

impl Tally {
    pub(crate) fn add(&mut self, lived: &Lived) {
        for cut in &lived.cuts {
            self.known += cut.known;
            self.recovering += u64::from(cut.recovering);
            self.lost += u64::from(cut.lost > 0);
            self.clones.push(cut.clone);
            self.compares.push(cut.compare);
        }
        let is_repeated = |text: &str| text.starts_with("repeated") || text.contains(" twice");
        for wrong in lived.wrong.iter().filter(|wrong| !wrong.starts_with("lost")) {
            let kind = if is_repeated(wrong) { &mut self.repeated } else { &mut self.wrong };
            *kind += 1;
        }
        self.ended += lived.ended;
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.clones.len() as u64
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.repeated + self.wrong == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cuts, seconds) = (self.cuts(), self.begun.elapsed().as_secs_f64());
        writeln!(f, "{cuts} cuts in {seconds:.0} s, {} of them during recovery", self.recovering)?;
        writeln!(f, "known before    {:>8} acknowledgements and calls", self.known)?;
        writeln!(f, "cuts that lost  {:>8}", self.lost)?;
        writeln!(f, "repeated        {:>8}", self.repeated)?;
        writeln!(f, "otherwise wrong {:>8}", self.wrong)?;
        writeln!(f, "gone on to end  {:>8} runs", self.ended)?;
        writeln!(f, "to clone        {}", spread(&self.clones))?;
        write!(f, "to compare      {}", spread(&self.compares))
    }
}

fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    let last = times.last().copied().unwrap_or_default();
    format!("{:>8.0?} median, {:.0?} of 99 in 100, {last:.0?} at most", at(50), at(99))
}
