//! Medians and ranges of what the programs printed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cases::Case;

/// Every report, by case and stack.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    reports: BTreeMap<(String, &'static str), Vec<Value>>,
    failures: BTreeMap<(String, &'static str), Vec<String>>,
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

    pub(crate) fn fail(&mut self, case: &Case, stack: &'static str, problem: String) {
        eprintln!("FAILED: {}, {stack}: {problem}", case.name());
        self.failures.entry((case.name(), stack)).or_default().push(problem);
    }

    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// How often a stack failed in a case.
    pub(crate) fn failed(&self, case: &str, stack: &'static str) -> usize {
        self.failures.get(&(case.to_owned(), stack)).map_or(0, Vec::len)
    }

    /// The stacks that have reports or failures, in the order of their names.
    pub(crate) fn stacks(&self) -> Vec<&'static str> {
        let mut stacks: Vec<_> = self.reports.keys().chain(self.failures.keys()).map(|(_, stack)| *stack).collect();
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
        runs.chain(failures).collect()
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
