//! What each load measures, and what both ends say of it.

use serde_json::Value;

use crate::support::{HANG, Process, Serve, sendstream, stderr};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The intervals add up to the end, and both ends have counted the same.
fn agrees(object: &Value, served: &Value, key: &str, of_server: &str) {
    let bytes = |object: &Value| object["bytes"].as_u64().unwrap();
    let (sent, received) = (&object["end"][format!("sum_sent{key}")], &object["end"][format!("sum_received{key}")]);
    assert_eq!(sent["bytes_with_omitted"], received["bytes_with_omitted"], "{object}");
    let own = if of_server == "received" { sent } else { received };
    let others = if of_server == "received" { received } else { sent };
    let intervals = object["intervals"].as_array().unwrap();
    let sum = intervals.iter().filter(|interval| interval[format!("sum{key}")]["omitted"] == false);
    let sum: u64 = sum.map(|interval| bytes(&interval[format!("sum{key}")])).sum();
    assert_eq!(sum, bytes(own), "{object}");
    assert_eq!(served["ok"], true, "{served}");
    assert_eq!(served[of_server]["bytes"], others["bytes"]);
    for side in [sent, received] {
        assert!((number(&side["bits_per_second"]) - bytes(side) as f64 * 8.0 / number(&side["seconds"])).abs() < 1.0);
    }
}

#[test]
fn an_upload_is_counted_the_same_at_both_ends() {
    let serve = Serve::start(&[]);
    let object = serve.measure(&["-t", "1", "-i", "0.25", "-P", "3"]);
    agrees(&object, &serve.ended(), "", "received");
    assert!(object["end"]["sum_sent"]["bytes"].as_u64().unwrap() > 1 << 20);
    let streams = object["end"]["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 3);
    for stream in streams {
        assert_eq!(stream["sender"]["bytes"], stream["receiver"]["bytes"]);
        assert!(stream["sender"]["bytes"].as_u64().unwrap() > 0, "every stream gets its share");
    }
    let intervals = object["intervals"].as_array().unwrap();
    assert!(intervals.len() >= 4, "{object}");
    for (index, interval) in intervals[..4].iter().enumerate() {
        assert_eq!(interval["sum"]["start"], index as f64 * 0.25);
        assert!(number(&interval["sum"]["snd_cwnd"]) > 0.0 && number(&interval["sum"]["rtt"]) > 0.0);
        assert!(interval["sum"]["lost_packets"].is_u64());
    }
}

#[test]
fn a_download_is_counted_the_same_at_both_ends_and_tells_the_servers_window() {
    let serve = Serve::start(&[]);
    let object = serve.measure(&["-t", "1", "-i", "0.5", "-R"]);
    agrees(&object, &serve.ended(), "", "sent");
    assert_eq!(object["start"]["test_start"]["reverse"], 1);
    let sum = &object["intervals"][0]["sum"];
    assert_eq!(sum["sender"], false);
    assert!(number(&sum["snd_cwnd"]) > 0.0, "{sum}");
}

#[test]
fn both_directions_at_once_are_told_apart() {
    let serve = Serve::start(&[]);
    let object = serve.measure(&["-t", "1", "--bidir"]);
    let served = serve.ended();
    agrees(&object, &served, "", "received");
    agrees(&object, &served, "_bidir_reverse", "sent");
}

#[test]
fn a_number_of_bytes_is_sent_to_the_last() {
    let serve = Serve::start(&[]);
    for args in [&["-n", "3000001"][..], &["-n", "3000001", "-R", "-P", "4"], &["-n", "3000001", "--messages=1000"]] {
        let object = serve.measure(args);
        assert_eq!(object["end"]["sum_sent"]["bytes"], 3_000_001, "{args:?}");
        assert_eq!(object["end"]["sum_received"]["bytes"], 3_000_001, "{args:?}");
        serve.ended();
    }
}

#[test]
fn what_is_omitted_counts_for_nothing() {
    let serve = Serve::start(&[]);
    let object = serve.measure(&["-t", "0.5", "-O", "0.3", "-i", "0.25"]);
    agrees(&object, &serve.ended(), "", "received");
    let sent = &object["end"]["sum_sent"];
    assert!(sent["bytes"].as_u64() < sent["bytes_with_omitted"].as_u64());
    let seconds = number(&sent["seconds"]);
    assert!((0.5..30.0).contains(&seconds), "{seconds}");
    let intervals = object["intervals"].as_array().unwrap();
    let spans: Vec<_> = intervals[..4]
        .iter()
        .map(|interval| &interval["sum"])
        .map(|sum| (number(&sum["start"]), number(&sum["end"]), sum["omitted"].as_bool().unwrap()))
        .collect();
    assert_eq!(spans, [(0.0, 0.25, true), (0.25, 0.3, true), (0.0, 0.25, false), (0.25, 0.5, false)]);
}

#[test]
fn messages_pings_and_handshakes_are_counted_one_by_one() {
    let serve = Serve::start(&[]);
    for (args, name, size) in [
        (&["--messages=300"][..], "messages", 300),
        (&["--messages=70000", "-R"], "messages", 70_000),
        (&["--messages", "--bidir"], "messages", 1024),
        (&["--ping-pong"], "pings", 64),
        (&["--ping-pong=100000", "-P", "2"], "pings", 100_000),
    ] {
        let object = serve.measure(&[&["-t", "0.5"], args].concat());
        let end = &object["end"];
        for side in ["sum_sent", "sum_received"] {
            assert_eq!(end[side]["bytes"].as_u64().unwrap(), end[side][name].as_u64().unwrap() * size, "{args:?}");
        }
        assert_eq!(end["sum_sent"][name], end["sum_received"][name], "{args:?}");
        assert!(end["sum_sent"][name].as_u64().unwrap() > 0);
        let served = serve.ended();
        let of_server = if args.contains(&"-R") { "sent" } else { "received" };
        assert_eq!(served[of_server]["messages"], end["sum_sent"][name], "{served}");
    }

    let object = serve.measure(&["-t", "0.5", "--handshakes", "-P", "2"]);
    let end = &object["end"];
    let (made, accepted) = (end["sum_sent"]["handshakes"].as_u64(), end["sum_received"]["handshakes"].as_u64());
    assert!(made > Some(0) && accepted <= made && accepted >= made.map(|made| made * 9 / 10), "{end}");
}

#[test]
fn times_of_pings_have_percentiles_in_order() {
    let serve = Serve::start(&[]);
    for load in ["--ping-pong", "--handshakes"] {
        let latency = serve.measure(&["-t", "0.5", load])["end"]["latency"].clone();
        assert!(latency["count"].as_u64().unwrap() > 0);
        let times = ["min", "p50", "p90", "p99", "p99.9", "max"].map(|name| number(&latency[name]));
        assert!(times.is_sorted() && times[0] > 0.0, "{latency}");
    }
}

#[test]
fn datagrams_that_were_lost_are_the_difference() {
    let serve = Serve::start(&[]);
    for direction in [&[][..], &["-R"]] {
        let end = serve.measure(&[&["-t", "0.5", "--datagrams=1000"], direction].concat())["end"].clone();
        let (sent, received) = (&end["sum_sent"]["datagrams"], &end["sum_received"]["datagrams"]);
        let lost = end["sum_received"]["lost_datagrams"].as_u64().unwrap();
        assert_eq!(sent.as_u64().unwrap(), received.as_u64().unwrap() + lost);
        assert!(received.as_u64().unwrap() > 0, "{end}");
        assert_eq!(end["sum_received"]["bytes"].as_u64().unwrap(), received.as_u64().unwrap() * 1000);
    }
}

/// Scripts that read iperf3's lines find the same columns.
#[test]
fn lines_have_iperf3s_columns() {
    let serve = Serve::start(&[]);
    let output = serve.run(&["-t", "1", "-i", "0.5"]);
    assert_eq!(stderr(&output), "");
    let text = str::from_utf8(&output.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(text.contains("local 127.0.0.1 port "), "{text}");
    assert_eq!(lines[2][..6], ["[", "ID]", "Interval", "Transfer", "Bitrate", "Lost"]);
    let mut begin = "0.00";
    for line in [&lines[3], &lines[4]] {
        assert_eq!([line[0], line[1], line[3]], ["[", "1]", "sec"], "{text}");
        let (from, to) = line[2].split_once('-').unwrap();
        assert_eq!((from, to.len()), (begin, "0.50".len()), "{text}");
        // On a busy machine a span is longer than it was to be, so that the last may be shorter.
        assert!(begin != "0.00" || to.parse::<f64>().unwrap() >= 0.5, "{text}");
        begin = to;
        assert!(line[5].ends_with("Bytes") && line[7].ends_with("bits/sec"), "{text}");
        line[4].parse::<f64>().unwrap();
        line[6].parse::<f64>().unwrap();
    }
    for role in ["sender", "receiver"] {
        assert_eq!(lines.iter().filter(|line| line.last() == Some(&role)).count(), 1, "{text}");
    }
}

#[test]
fn an_interrupted_run_tells_what_there_was() {
    let serve = Serve::start(&[]);
    for args in [&["-t", "100"][..], &["-t", "100", "-R"], &["-n", "1T", "-R"], &["-t", "100", "--ping-pong"]] {
        let mut command = sendstream();
        command.args(["perf", "run", "-i", "0.1"]).args(args).arg(&serve.target);
        let mut client = Process::start(command);
        while !client.line().contains("0.00-0.") {}
        client.line(); // the second span
        client.signal("INT");
        while !client.line().ends_with("receiver") {}
        assert_eq!(client.wait().code(), Some(130), "{args:?}");
        assert_eq!(serve.ended()["ok"], true, "{args:?}");
    }
}

#[test]
fn an_open_server_wants_no_ticket_and_once_is_once() {
    let mut serve = Serve::start(&["--open", "--once"]);
    assert_eq!(serve.target, serve.address.to_string());
    serve.measure(&["-n", "1000"]);
    assert_eq!(serve.ended()["received"]["bytes"], 1000);
    assert_eq!(serve.process.wait().code(), Some(0));
}

#[test]
fn the_readmes_commands_do_what_they_say() {
    let serve = Serve::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let readme = include_str!("../../README.md");
    let commands = readme.lines().filter_map(|line| line.trim().strip_prefix("$ sendstream perf run "));
    let mut count = 0;
    for command in commands {
        let words = command.split('#').next().unwrap().split_whitespace();
        let args = words.map(|word| if word == "TICKET" { &serve.target } else { word });
        let output = assert_cmd::Command::new(sendstream().get_program())
            .args(["perf", "run"])
            .args(args)
            // Ten seconds are as good as one.
            .args(["-t", "0.5"])
            .current_dir(dir.path())
            .timeout(HANG)
            .output()
            .unwrap();
        assert_eq!(stderr(&output), "", "{command}");
        assert_eq!(output.status.code(), Some(0), "{command}");
        count += 1;
    }
    assert_eq!(count, 3);
    assert!(dir.path().join("path.html").exists());
}
