//! Writes a group's policy as the file that reads back as it, and tells two policies apart.
//!
//! Both work from one list of `key = value` lines, so the file and the difference that
//! `rais group apply` shows speak the same language. Every key is written, also those at their
//! default: `rais group show --toml` says what is in force, not what somebody once typed.

use statemachine::{
    AllDown, LoadKind, LoadSpec, Placement, Policy, QuorumLoss, Rebalance, Scripts, Stale,
    TestKind, TestSpec, Transfer,
};

use super::host::{quote, quote_all};
use super::scalar::Millis;
use super::traps;

/// A section of the file: its header (empty for the top), the name that tells it from its
/// siblings, and its lines.
struct Block {
    header: String,
    title: String,
    lines: Vec<(&'static str, String)>,
}

/// The policy as a file for `rais group apply`; reading it gives the same policy again.
pub fn policy_to_toml(policy: &Policy) -> String {
    let mut out = String::new();
    for block in blocks(policy) {
        if !block.header.is_empty() {
            out.push_str(&format!("\n{}\n", block.header));
        }
        for (key, value) in block.lines {
            out.push_str(&format!("{key} = {value}\n"));
        }
    }
    out
}

/// What changes from `old` (none: the group is new) to `new`, one line each: `+` comes, `-` goes,
/// `~` changes. Empty when nothing does.
pub fn policy_diff(old: Option<&Policy>, new: &Policy) -> Vec<String> {
    let Some(old) = old else {
        return blocks(new)
            .iter()
            .flat_map(|block| listed('+', block))
            .collect();
    };
    let (old, new) = (blocks(old), blocks(new));
    let mut changes = Vec::new();
    for block in &new {
        match old.iter().find(|other| other.title == block.title) {
            Some(before) => compare(before, block, &mut changes),
            None => changes.extend(listed('+', block)),
        }
    }
    for block in &old {
        if !new.iter().any(|other| other.title == block.title) {
            changes.extend(listed('-', block));
        }
    }
    changes
}

fn listed(sign: char, block: &Block) -> Vec<String> {
    block
        .lines
        .iter()
        .map(|(key, value)| format!("{sign} {}{key} = {value}", block.title))
        .collect()
}

fn compare(before: &Block, after: &Block, changes: &mut Vec<String>) {
    let title = &after.title;
    for (key, value) in &after.lines {
        match before.lines.iter().find(|(other, _)| other == key) {
            Some((_, was)) if was == value => {}
            Some((_, was)) => changes.push(format!("~ {title}{key} = {was} -> {value}")),
            None => changes.push(format!("+ {title}{key} = {value}")),
        }
    }
    for (key, was) in &before.lines {
        if !after.lines.iter().any(|(other, _)| other == key) {
            changes.push(format!("- {title}{key} = {was}"));
        }
    }
}

/// The policy's sections in the order of the file.
fn blocks(policy: &Policy) -> Vec<Block> {
    let mut blocks = vec![Block {
        header: String::new(),
        title: String::new(),
        lines: root(policy),
    }];
    blocks.extend(policy.tests.iter().map(test));
    blocks.extend(policy.loads.iter().map(load));
    let sections = [
        ("scripts", policy.scripts.as_ref().map(scripts)),
        ("transfer", policy.transfer.as_ref().map(transfer)),
        ("traps", policy.traps.as_ref().map(traps::write)),
    ];
    for (name, lines) in sections {
        blocks.extend(lines.map(|lines| Block {
            header: format!("[{name}]"),
            title: format!("{name}."),
            lines,
        }));
    }
    blocks
}

fn time(ms: u64) -> String {
    quote(&Millis(ms).to_string())
}

fn root(policy: &Policy) -> Vec<(&'static str, String)> {
    let placement = match policy.placement {
        Placement::Balanced => "balanced",
        Placement::Random => "random",
    };
    let quorum_loss = match policy.quorum_loss {
        QuorumLoss::Hold => "hold",
        QuorumLoss::LastResort => "last_resort",
    };
    let all_down = match policy.all_down {
        AllDown::Empty => "empty",
        AllDown::LastKnown => "last_known",
    };
    let stale = match policy.stale {
        Stale::Serve => "serve",
        Stale::Servfail => "servfail",
    };
    let rebalance = match policy.rebalance {
        Rebalance::Prefer => "prefer",
        Rebalance::Sticky => "sticky",
    };
    vec![
        ("name", quote(&policy.name.0)),
        ("zone", quote(&policy.zone)),
        ("ttl", time(u64::from(policy.ttl_s) * 1_000)),
        ("fault_ttl", time(u64::from(policy.fault_ttl_s) * 1_000)),
        ("min_addresses", policy.min_addresses.to_string()),
        ("high_water", policy.high_water.to_string()),
        ("low_water", policy.low_water.to_string()),
        ("scale", policy.scale.to_string()),
        ("sample_interval", time(policy.sample_interval_ms)),
        ("all_down", quote(all_down)),
        ("stale", quote(stale)),
        ("stale_after", time(policy.stale_after_ms)),
        (
            "orphan_ttl",
            policy.orphan_ttl_ms.map_or_else(|| quote("never"), time),
        ),
        ("placement", quote(placement)),
        ("quorum_loss", quote(quorum_loss)),
        ("last_resort_after", time(policy.last_resort_after_ms)),
        ("rebalance", quote(rebalance)),
    ]
}

fn test(spec: &TestSpec) -> Block {
    let kind = match &spec.kind {
        TestKind::Exec { command } => ("exec", format!("{{ command = {} }}", quote_all(command))),
        TestKind::Tcp { target } => ("tcp", format!("{{ target = {} }}", quote(target))),
        TestKind::Http {
            url,
            expect_status,
            expect_body,
        } => {
            let body = expect_body.as_ref().map_or_else(String::new, |text| {
                format!(", expect_body = {}", quote(text))
            });
            (
                "http",
                format!(
                    "{{ url = {}, expect_status = {expect_status}{body} }}",
                    quote(url)
                ),
            )
        }
        TestKind::Https {
            url,
            host,
            ca,
            verify,
            expect_status,
            expect_body,
        } => {
            let mut words = vec![format!("url = {}", quote(url))];
            let text = |key: &str, text: &Option<String>| {
                let text = text.as_ref();
                text.map(|text| format!("{key} = {}", quote(text)))
            };
            words.extend(text("host", host));
            words.extend(text("ca", ca));
            words.extend((!verify).then(|| "verify = false".to_owned()));
            words.push(format!("expect_status = {expect_status}"));
            words.extend(text("expect_body", expect_body));
            ("https", format!("{{ {} }}", words.join(", ")))
        }
        TestKind::Dns { server, query } => (
            "dns",
            format!("{{ server = {}, query = {} }}", quote(server), quote(query)),
        ),
        TestKind::Process { pid_file } => {
            ("process", format!("{{ pid_file = {} }}", quote(pid_file)))
        }
        TestKind::Interface { name, gateway } => {
            let gateway = gateway.map_or_else(String::new, |ip| format!(", gateway = \"{ip}\""));
            (
                "interface",
                format!("{{ name = {}{gateway} }}", quote(name)),
            )
        }
    };
    let mut lines = vec![("name", quote(&spec.name)), kind];
    lines.extend([
        ("interval", time(spec.interval_ms)),
        ("timeout", time(spec.timeout_ms)),
    ]);
    lines.extend([
        ("rise", spec.rise.to_string()),
        ("fall", spec.fall.to_string()),
    ]);
    Block {
        header: "[[test]]".to_owned(),
        title: format!("test {}: ", spec.name),
        lines,
    }
}

fn load(spec: &LoadSpec) -> Block {
    let kind = match &spec.kind {
        LoadKind::Exec { command } => ("exec", format!("{{ command = {} }}", quote_all(command))),
        LoadKind::Cpu => ("cpu", "{}".to_owned()),
        LoadKind::Net { interface } => ("net", format!("{{ interface = {} }}", quote(interface))),
        LoadKind::Connections { capacity } => {
            ("connections", format!("{{ capacity = {capacity} }}"))
        }
        LoadKind::Http {
            url,
            field,
            capacity,
        } => (
            "http",
            format!(
                "{{ url = {}, field = {}, capacity = {capacity} }}",
                quote(url),
                quote(field)
            ),
        ),
        LoadKind::Pressure { resource } => {
            ("pressure", format!("{{ resource = {} }}", quote(resource)))
        }
    };
    let lines = vec![
        ("name", quote(&spec.name)),
        kind,
        ("interval", time(spec.interval_ms)),
        ("timeout", time(spec.timeout_ms)),
    ];
    Block {
        header: "[[load]]".to_owned(),
        title: format!("load {}: ", spec.name),
        lines,
    }
}

fn scripts(scripts: &Scripts) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    lines.extend(
        scripts
            .acquire
            .as_ref()
            .map(|path| ("acquire", quote(path))),
    );
    lines.extend(
        scripts
            .release
            .as_ref()
            .map(|path| ("release", quote(path))),
    );
    lines.push(("timeout", time(scripts.timeout_ms)));
    lines
}

fn transfer(transfer: &Transfer) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("notify", quote_all(&transfer.notify)),
        ("allow", quote_all(&transfer.allow)),
    ];
    lines.extend(transfer.tsig.as_ref().map(|key| ("tsig", quote(key))));
    lines
}
