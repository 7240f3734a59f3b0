//! The configuration in files.

use std::time::Duration;

use sendstream::{
    CipherSuite, CongestionControl, Resumption, ServedBy, StreamScheduling, TransportConfig,
    process::{LoadBalancing, RetryPolicy},
};
use serde_json::{from_str, json, to_value};

#[test]
fn every_setting_is_written_by_its_setters_name_and_read_again() {
    let config = TransportConfig::default()
        .idle_timeout(None)
        .keep_alive(Duration::from_millis(1500))
        .initial_rtt(Duration::from_millis(25))
        .mtu_search_interval(Duration::from_micros(7))
        .send_window(9)
        .datagram_receive_buffer(None)
        .congestion_control(CongestionControl::Bbr)
        .stream_scheduling(StreamScheduling::Fifo);
    let written = to_value(&config).unwrap();
    assert_eq!(written["idle_timeout"], json!(0.0));
    assert_eq!(written["keep_alive"], json!(1.5));
    assert_eq!(written["send_window"], json!(9));
    assert_eq!(written["datagram_receive_buffer"], json!(null));
    assert_eq!(written["congestion_control"], json!("bbr"));
    assert_eq!(written["stream_scheduling"], json!("fifo"));
    assert_eq!(serde_json::from_value::<TransportConfig>(written.clone()).unwrap(), config);

    // Each name is that of a setter.
    let source = include_str!("../src/types/config.rs");
    for name in written.as_object().unwrap().keys() {
        assert!(source.contains(&format!("    pub fn {name}(mut self")), "{name}");
    }
    let setters = source.matches("(mut self, ").count();
    assert_eq!(written.as_object().unwrap().len(), setters, "a setting is not written");
}

#[test]
fn what_is_absent_has_its_default_and_what_is_wrong_is_an_error() {
    assert_eq!(from_str::<TransportConfig>("{}").unwrap(), TransportConfig::default());
    for (wrong, says) in [
        (r#"{"idle_timout": 1}"#, "unknown field `idle_timout`"),
        (r#"{"idle_timeout": -1}"#, "-1 seconds: "),
        (r#"{"handshake_timeout": 1e300}"#, "seconds: "),
        (r#"{"max_concurrent_uni_streams": 65536}"#, "65536"),
        (r#"{"congestion_control": "reno"}"#, "unknown variant `reno`"),
    ] {
        let error = from_str::<TransportConfig>(wrong).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_choices_are_words() {
    fn goes_round<T>(value: T, written: serde_json::Value)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        assert_eq!(to_value(&value).unwrap(), written);
        assert_eq!(serde_json::from_value::<T>(written).unwrap(), value);
    }
    goes_round(Resumption::ResumeAndZeroRtt, json!("resume_and_zero_rtt"));
    goes_round(ServedBy::OwnThreads, json!("own_threads"));
    goes_round(CipherSuite::Aes128GcmSha256, json!("TLS_AES_128_GCM_SHA256"));
    goes_round(RetryPolicy::Handshakes(3), json!({"handshakes": 3}));
    goes_round(RetryPolicy::Always, json!("always"));
    goes_round(LoadBalancing::ServerId([1, 2, 3, 4]), json!({"server_id": [1, 2, 3, 4]}));
}
