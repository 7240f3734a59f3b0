//! Medians and ranges of what the programs printed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cases::Case;

/// Every report, by case and stack.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    reports: BTreeMap<(String, &'static str), Vec<Value>>,
    failures: BTreeMap<(String, &'static str), Vec<String>>,
    /// What the system does not allow, and why.
    not_possible: BTreeMap<(String, &'static str), String>,
    /// Whether something failed that makes the run worth nothing, or is a defect of ours.
    serious: bool,
}

/// A figure's median and range over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Figures {
    pub(crate) fn add(&mut self, case: &Case, stack: &'static str, report: Value) {
        self.reports.entry((case.name(), stack)).or_default().push(report);
    }

    /// A run failed. That counts as serious for Sendstream in every case, and for the others where
    /// it is not their scaling that is looked at: what ours is judged by is then missing.
    pub(crate) fn fail(&mut self, case: &Case, stack: &'static str, problem: String) {
        eprintln!("FAILED: {}, {stack}: {problem}", case.name());
        self.failures.entry((case.name(), stack)).or_default().push(problem);
        self.serious |= stack.contains("sendstream") || !case.scale;
    }

    /// The system does not allow a case.
    pub(crate) fn rule_out(&mut self, case: &Case, stack: &'static str, reason: String) {
        eprintln!("NOT POSSIBLE HERE: {}, {stack}: {reason}", case.name());
        self.not_possible.insert((case.name(), stack), reason);
    }

    pub(crate) fn has_serious_failures(&self) -> bool {
        self.serious
    }

    /// Why the system does not allow a case.
    pub(crate) fn ruled_out(&self, case: &str, stack: &'static str) -> Option<&str> {
        self.not_possible.get(&(case.to_owned(), stack)).map(String::as_str)
    }

    /// How often a stack failed in a case.
    pub(crate) fn failed(&self, case: &str, stack: &'static str) -> usize {
        self.failures.get(&(case.to_owned(), stack)).map_or(0, Vec::len)
    }

    /// Whether a stack only ever failed in a case, and more than once. Another round would take as
    /// long as it may, and tell nothing.
    pub(crate) fn is_given_up(&self, case: &str, stack: &'static str) -> bool {
        self.failed(case, stack) > 1 && !self.reports.contains_key(&(case.to_owned(), stack))
    }

    /// Which part of a stack's runs of a case came to its end; `None` where there were none.
    pub(crate) fn completed(&self, case: &str, stack: &'static str) -> Option<f64> {
        let completed = self.reports.get(&(case.to_owned(), stack)).map_or(0, Vec::len);
        let failed = self.failed(case, stack) + usize::from(self.ruled_out(case, stack).is_some());
        (completed + failed > 0).then(|| completed as f64 / (completed + failed) as f64)
    }

    /// The stacks that were run, in the order of their names.
    pub(crate) fn stacks(&self) -> Vec<&'static str> {
        let keys = self.reports.keys().chain(self.failures.keys()).chain(self.not_possible.keys());
        let mut stacks: Vec<_> = keys.map(|(_, stack)| *stack).collect();
        stacks.sort_unstable();
        stacks.dedup();
        stacks
    }

    /// A figure of one stack in one case; `None` where there is none.
    pub(crate) fn get(&self, case: &str, stack: &'static str, figure: &str) -> Option<Spread> {
        let reports = self.reports.get(&(case.to_owned(), stack))?;
        Spread::of(reports.iter().filter_map(|report| report[figure].as_f64()).collect())
    }

    /// The cipher suite that a stack reported.
    pub(crate) fn suite(&self, stack: &str) -> Option<&str> {
        let mut reports = self.reports.iter().filter(|((_, name), _)| *name == stack).flat_map(|(_, reports)| reports);
        reports.find_map(|report| report["suite"].as_str())
    }

    pub(crate) fn to_json(&self) -> Value {
        let runs = self
            .reports
            .iter()
            .map(|((case, stack), reports)| json!({ "case": case, "stack": stack, "reports": reports }));
        let failures = self
            .failures
            .iter()
            .map(|((case, stack), problems)| json!({ "case": case, "stack": stack, "failures": problems }));
        let not_possible = self
            .not_possible
            .iter()
            .map(|((case, stack), reason)| json!({ "case": case, "stack": stack, "not_possible_here": reason }));
        runs.chain(failures).chain(not_possible).collect()
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { low, median, high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middle_two() {
        let spread = |values: &[f64]| Spread::of(values.to_vec()).unwrap();
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { low: 1.0, median: 2.0, high: 3.0 });
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Spread { low: 1.0, median: 2.5, high: 4.0 });
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
