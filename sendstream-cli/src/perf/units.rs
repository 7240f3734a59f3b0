//! Amounts as iperf3 writes them: bytes by powers of 1024, bits per second by powers of 1000.

/// As in `1.10 GBytes`: 11 columns, or more.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["Bytes", "KBytes", "MBytes", "GBytes", "TBytes", "PBytes", "EBytes"])
}

/// As in `943 Mbits/sec`.
pub(crate) fn bits_per_second(rate: f64) -> String {
    scaled(rate, 1000.0, &["bits/sec", "Kbits/sec", "Mbits/sec", "Gbits/sec", "Tbits/sec"])
}

/// How many bits went in each second.
pub(crate) fn rate(bytes: u64, seconds: f64) -> f64 {
    per_second(bytes, seconds) * 8.0
}

/// How many there were in each second; none if there was no time.
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// As in `1.24 ms`: three digits that matter.
pub(crate) fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 999.5 => (ns, "ns"),
        ns if ns < 999.5e3 => (ns / 1e3, "us"),
        ns if ns < 999.5e6 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// Three digits that matter, in four columns at least.
fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:4.2}")
    } else if value < 99.95 {
        format!("{value:4.1}")
    } else {
        format!("{value:4.0}")
    }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{} {}", three_digits(value), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_by_1024_and_bits_by_1000() {
        assert_eq!(bytes(0), "0.00 Bytes");
        assert_eq!(bytes(1023), "1023 Bytes");
        assert_eq!(bytes(1 << 20), "1.00 MBytes");
        assert_eq!(bytes(117_571_584), " 112 MBytes");
        assert_eq!(bytes(1_181_116_006), "1.10 GBytes");
        assert_eq!(bytes(u64::MAX), "16.0 EBytes");
        assert_eq!(bits_per_second(941_300_000.0), " 941 Mbits/sec");
        assert_eq!(bits_per_second(1_000_000.0), "1.00 Mbits/sec");
        assert_eq!(bits_per_second(29_470_000_000.0), "29.5 Gbits/sec");
        assert_eq!(rate(125_000_000, 1.0), 1e9);
        assert_eq!(rate(1, 0.0), 0.0);
    }

    #[test]
    fn times_have_three_digits_and_their_own_unit() {
        for (nanoseconds, text) in
            [(0.0, "0.00 ns"), (999.0, " 999 ns"), (1240.0, "1.24 us"), (45_600_000.0, "45.6 ms"), (2.5e9, "2.50 s")]
        {
            assert_eq!(time(nanoseconds), text);
        }
    }
}
