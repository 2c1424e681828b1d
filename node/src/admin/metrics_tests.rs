//! The metrics page as Prometheus would read it, and the reasons of `/healthz`.

use std::collections::BTreeSet;

use super::*;
use crate::cli;

fn page() -> String {
    let counters = || vec![("noerror", 3)];
    let measures = Measures {
        leads: true,
        lease_ms: Some(259),
        dns: Some(::dns::Counters {
            by_rcode: counters(),
            by_type: vec![("a", 3)],
            by_transport: vec![("udp", 3)],
            incidents: vec![("dropped", 0)],
        }),
        ..Measures::default()
    };
    let process = Process {
        cpu_seconds: Some(1.5),
        resident_bytes: Some(4096),
    };
    render(
        true,
        Some(&cli::sample::status()),
        Some(&measures),
        &process,
    )
}

/// Goal: the page is well formed, so that a scraper takes all of it.
/// Method: each line is HELP, TYPE or a sample of the family that was declared just before.
#[test]
fn every_sample_belongs_to_a_family_with_help_type_and_prefix() {
    let page = page();
    let (mut family, mut helped, mut seen) = (String::new(), String::new(), BTreeSet::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(seen.insert(name.to_owned()), "{name} is declared twice");
            family = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert_eq!(name, family);
            assert!(name.starts_with("rais_"));
            value.parse::<f64>().unwrap();
            assert!(
                seen.insert(series.to_owned()) || series == name,
                "{series} twice"
            );
        }
    }
    for needed in [
        "rais_up 1",
        "rais_leader 1",
        "rais_lease_ms 259",
        "rais_process_cpu_seconds_total 1.50",
    ] {
        assert!(
            page.lines().any(|line| line == needed),
            "{needed} is not in:\n{page}"
        );
    }
    assert!(page.contains("rais_dns_answers_by_rcode_total{rcode=\"noerror\"} 3\n"));
}

/// Goal: a label holds any text without breaking its line.
#[test]
fn labels_are_escaped() {
    let mut page = Page::default();
    page.sample("x", &[("a", "q\"b\\n\n"), ("b", "")], 1);
    assert_eq!(page.0, "rais_x{a=\"q\\\"b\\\\n\\n\",b=\"\"} 1\n");
}

/// Goal: CPU and memory are read right, from a name with brackets and blanks in it too.
#[test]
fn process_figures_are_read_from_proc() {
    let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
    assert_eq!(cpu_seconds(stat), Some(3.0));
    assert_eq!(cpu_seconds("7 (a"), None);
    assert_eq!(
        resident_bytes("VmSize:\t 9 kB\nVmRSS:\t  12 kB\n"),
        Some(12 * 1024)
    );
    let own = process();
    assert!(own.cpu_seconds.is_some() && own.resident_bytes.is_some_and(|bytes| bytes > 0));
}

/// Goal: healthy means recovered, with a leader that hears a quorum; else the reason is told.
#[test]
fn health_names_what_is_missing() {
    let well = || Status {
        leader: Some("h1".into()),
        quorum: true,
        ..Status::default()
    };
    assert_eq!(illness(true, &Ok(well())), None);
    let ill = [
        illness(false, &Ok(well())),
        illness(
            true,
            &Ok(Status {
                leader: None,
                ..well()
            }),
        ),
        illness(
            true,
            &Ok(Status {
                quorum: false,
                ..well()
            }),
        ),
        illness(true, &Err("the control thread has ended".into())),
    ];
    let words = ["recovering", "no leader", "no quorum", "control thread"];
    for (reason, word) in ill.into_iter().zip(words) {
        assert!(
            reason.as_ref().is_some_and(|it| it.contains(word)),
            "{reason:?}"
        );
    }
}
