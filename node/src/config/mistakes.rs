//! One bad configuration for each mistake, with the line, the column and the words that it gets.
//!
//! The table is the promise: a row is `(name, edit, expected headline)`, where the edit replaces a
//! piece of a good file. A change of a message shows up here and nowhere else.

use super::{ConfigFile, check, parse_host, parse_policy, policy_diff, policy_to_toml};

/// The host configuration of the contract (interface.md), word for word.
pub(super) const HOST: &str = r#"name = "h1"
data_dir = "/var/lib/rais"

[control]                       # first = the host's id address
listen = ["10.77.0.1:7400", "10.78.0.1:7400"]

[admin]                         # HTTPS API, dashboard, metrics
listen = "127.0.0.1:7443"

[dns]
listen = ["10.77.0.1:53"]       # empty = this host serves no DNS

observer = false                # true: votes and serves DNS, never holds an address

[[member]]                      # once for each service group this host is in
group = "web"
preferred = ["10.77.0.101/24", "fd00:77::101/64"]   # v4 and/or v6; none = hot spare
interface = "eth0"              # where service addresses go
"#;

/// The group policy of the contract (interface.md), word for word.
pub(super) const POLICY: &str = r#"name = "web"
zone = "web.example."
ttl = "5s"
min_addresses = 1
high_water = 800                # in units of scale
low_water = 500
scale = 1000
sample_interval = "1s"
orphan_ttl = "30d"              # or "never"
placement = "balanced"          # or "random"
quorum_loss = "hold"            # or "last_resort"
last_resort_after = "5s"
rebalance = "prefer"            # take a preferred address back at once; or "sticky" (wait for an operator)

[[test]]
name = "http"
http = { url = "http://{address}/health", expect_status = 200 }
interval = "1s"
timeout = "500ms"
rise = 2
fall = 2

[[load]]
name = "cpu"
cpu = {}

[scripts]
acquire = "/etc/rais/web-acquire"
release = "/etc/rais/web-release"
timeout = "5s"

[transfer]                      # existing name servers that follow this zone
notify = ["10.77.0.53:53"]
allow = ["10.77.0.53"]
tsig = "xfer-key"

[traps]
snmp = [{ target = "10.77.0.60:162", version = "2c", community = "public" }]
webhook = ["https://hooks.example/rais"]
"#;

/// Piece of a good file, what stands there instead, and the headline that is expected.
type Row = (&'static str, &'static str, &'static str);

#[rustfmt::skip]
const HOST_ROWS: &[Row] = &[
    // Syntax and keys.
    ("name = \"h1\"", "name = \"h1", "1:11: not valid TOML: invalid basic string, expected `\"`; mend the syntax here"),
    ("name = \"h1\"", "name = \"h1\"\nname = \"h2\"", "2:1: not valid TOML: duplicate key"),
    ("data_dir =", "datadir =", "2:1: unknown key `datadir` in the top of the file; did you mean `data_dir`?"),
    ("group =", "gruop =", "16:1: unknown key `gruop` in [[member]]; did you mean `group`?"),
    ("observer = false", "driver = \"loopback\"", "13:1: unknown key `driver` in [dns]; move it to the top of the file, before the first [section]"),
    ("listen = \"127.0.0.1:7443\"", "port = 7443", "8:1: unknown key `port` in [admin]; remove it; known here: listen, open_on_loopback"),
    ("listen = \"127.0.0.1:7443\"", "open_on_loopback = \"yes\"", "8:20: `open_on_loopback` is a string; write true or false, without quotes"),
    ("[[member]]  ", "[member]  ", "15:1: `member` is a table; write [[member]] with two brackets on each side, once for each"),
    // What is missing.
    ("name = \"h1\"\n", "", "1:1: `name` is missing in the top of the file; add `name = \"h1\"`"),
    ("data_dir = \"/var/lib/rais\"\n", "", "1:1: `data_dir` is missing in the top of the file; add `data_dir = \"/var/lib/rais\"`"),
    ("[control]                       # first = the host's id address\nlisten = [\"10.77.0.1:7400\", \"10.78.0.1:7400\"]", "", "1:1: the section [control] is missing; add `[control]` with `listen = [\"10.77.0.1:7400\"]`"),
    ("listen = [\"10.77.0.1:7400\", \"10.78.0.1:7400\"]", "", "4:1: `listen` is missing in [control]; add `listen = [\"10.77.0.1:7400\"]`"),
    ("listen = [\"10.77.0.1:7400\", \"10.78.0.1:7400\"]", "listen = []", "5:10: `listen` of [control] is empty; name at least one address: listen = [\"10.77.0.1:7400\"]"),
    ("group = \"web\"\n", "", "15:1: `group` is missing in [[member]]; add `group = \"web\"`"),
    ("interface = \"eth0\"", "", "15:1: `interface` is missing in [[member]]; add `interface = \"eth0\"`"),
    // Types.
    ("name = \"h1\"", "name = 1", "1:8: `name` is an integer; write a string, such as \"h1\""),
    ("observer = false", "observer = \"no\"", "13:12: `observer` is a string; write true or false, without quotes"),
    ("[\"10.77.0.1:53\"]", "\"10.77.0.1:53\"", "11:10: `listen` is a string; write a list: listen = [\"10.77.0.1:53\"]"),
    ("[\"10.77.0.1:53\"]", "[53]", "11:11: `listen` holds an integer; write strings: listen = [\"10.77.0.1:53\"]"),
    ("\"127.0.0.1:7443\"", "[\"127.0.0.1:7443\"]", "8:10: `listen` is an array; write one address, such as \"127.0.0.1:7443\""),
    // Names.
    ("\"h1\"", "\"\"", "1:8: the host name is empty; use 1 to 63 of a-z, 0-9 and inner hyphens"),
    ("\"h1\"", "\"H1\"", "1:8: the host name `H1` has an upper-case letter; write `h1`"),
    ("\"h1\"", "\"h_1\"", "1:8: the host name `h_1` has a `_`; use 1 to 63 of a-z, 0-9 and inner hyphens"),
    ("\"h1\"", "\"h1.example\"", "1:8: the host name `h1.example` has a `.`; use 1 to 63 of a-z, 0-9 and inner hyphens"),
    ("\"h1\"", "\"-h1\"", "1:8: the host name `-h1` starts or ends with a hyphen; use 1 to 63 of a-z, 0-9 and inner hyphens"),
    ("\"h1\"", "\"ns\"", "1:8: the host name `ns` is reserved for the name servers of a zone; choose another name"),
    ("\"web\"", "\"\"", "16:9: the group name is empty; use 1 to 63 of a-z, 0-9 and inner hyphens"),
    ("\"eth0\"", "\"eth/0\"", "18:13: `eth/0` is not the name of an interface; write one that `ip link` shows, such as `eth0` (1 to 15 characters)"),
    ("\"/var/lib/rais\"", "\"rais\"", "2:12: `rais` is not an absolute path; write it from `/` on"),
    // Addresses and ports.
    ("\"10.78.0.1:7400\"", "\"10.78.0.300:7400\"", "5:29: `10.78.0.300:7400` has a bad IP address; write an IP address, not a name: 10.0.0.1:7400 or [fd00::1]:7400"),
    ("\"10.78.0.1:7400\"", "\"h1.example:7400\"", "5:29: `h1.example:7400` has a bad IP address; write an IP address, not a name: 10.0.0.1:7400 or [fd00::1]:7400"),
    ("\"10.78.0.1:7400\"", "\"10.78.0.1:74000\"", "5:29: `10.78.0.1:74000` has a bad port; write a port from 1 to 65535"),
    ("\"10.78.0.1:7400\"", "\"10.78.0.1:0\"", "5:29: `10.78.0.1:0` has port 0; write a port from 1 to 65535"),
    ("\"10.78.0.1:7400\"", "\"10.78.0.1\"", "5:29: `10.78.0.1` has no port; write it as `10.78.0.1:7400`"),
    ("\"10.78.0.1:7400\"", "\"fd00::1\"", "5:29: `fd00::1` has no port; write it as `[fd00::1]:7400`"),
    ("\"10.78.0.1:7400\"", "\"nonsense\"", "5:29: `nonsense` is not an address and port; write 10.0.0.1:7400 or [fd00::1]:7400"),
    ("\"10.78.0.1:7400\"", "\"0.0.0.0:7400\"", "5:29: `0.0.0.0:7400` stands for no address; write an address of this host that others can reach"),
    ("\"10.78.0.1:7400\"", "\"224.0.0.1:7400\"", "5:29: `224.0.0.1:7400` is a multicast address; write an address of this host that others can reach"),
    ("\"10.78.0.1:7400\"", "\"127.0.0.1:7400\"", "5:29: `127.0.0.1:7400` is a loopback address, which no other host reaches; write another address, or `driver = \"loopback\"` at the top for a trial on one machine"),
    ("\"10.78.0.1:7400\"", "\"10.77.0.1:7400\"", "5:29: `10.77.0.1:7400` is used twice (first by [control] in line 5); remove one, or change its port"),
    ("\"10.77.0.1:53\"", "\"10.77.0.1:7400\"", "11:11: `10.77.0.1:7400` is used twice (first by [control] in line 5); remove one, or change its port"),
    ("\"127.0.0.1:7443\"", "\"10.77.0.1:53\"", "8:10: `10.77.0.1:53` is used twice (first by [dns] in line 11); remove one, or change its port"),
    // Preferred addresses.
    ("\"10.77.0.101/24\"", "\"10.77.0.101\"", "17:14: `10.77.0.101` has no prefix length; write it with that of its network, such as `10.77.0.101/24`"),
    ("\"10.77.0.101/24\"", "\"10.77.0.101/33\"", "17:14: `10.77.0.101/33` has a bad prefix length; write 1 to 32 after the slash"),
    ("\"10.77.0.101/24\"", "\"10.77.0.0/24\"", "17:14: `10.77.0.0/24` names the network itself, not an address in it; set the bits after the prefix, or mend the prefix length"),
    ("\"10.77.0.101/24\"", "\"10.77.0.255/24\"", "17:14: `10.77.0.255/24` is the broadcast address of its network; choose another address, or mend the prefix length"),
    ("\"10.77.0.101/24\"", "\"0.0.0.0/24\"", "17:14: `0.0.0.0/24` stands for no address; write an address that clients can reach"),
    ("\"10.77.0.101/24\"", "\"239.1.1.1/24\"", "17:14: `239.1.1.1/24` is a multicast address; write an address that clients can reach"),
    ("\"10.77.0.101/24\"", "\"127.0.0.5/8\"", "17:14: `127.0.0.5/8` is a loopback address, which no client reaches; write another address, or `driver = \"loopback\"` at the top for a trial on one machine"),
    ("\"10.77.0.101/24\"", "\"ten/24\"", "17:14: `ten/24` is not an IP address; write 10.0.0.101/24 or fd00::101/64"),
    ("\"10.77.0.101/24\"", "\"10.77.0.1/24\"", "17:14: the preferred address 10.77.0.1 is also a control address; choose another: a service address moves away, this one must stay"),
    ("\"fd00:77::101/64\"", "\"10.77.0.101/16\"", "17:32: the preferred address 10.77.0.101 is given twice (first in line 17); remove one: an address has one group and one preferred host"),
    ("interface = \"eth0\"", "interface = \"eth0\"\n[[member]]\ngroup = \"web\"\ninterface = \"eth0\" #", "20:9: the host is in group `web` twice (first in line 16); keep one [[member]] for each group"),
    ("observer = false", "observer = true", "15:1: an observer is in no group, but here is a [[member]]; remove the member, or `observer = true`"),
    ("name = \"h1\"", "observer = false\nname = \"h1\"", "14:12: `observer` is given twice; keep the one at the top of the file"),
    // Our own additions.
    ("name = \"h1\"", "driver = \"netlnik\"\nname = \"h1\"", "1:10: `netlnik` is not known here; did you mean `netlink`?"),
    ("name = \"h1\"", "gate = \"none\"\nname = \"h1\"", "1:8: real interfaces serve nothing without a gate; remove the line, or write `gate = \"required\"`"),
    ("name = \"h1\"", "driver = \"loopback\"\ngate = \"required\"\nname = \"h1\"", "2:8: the loopback driver has no gate; remove `gate`, or use the netlink driver"),
    ("[admin]", "[loopback]\nhttp_port = 8077\n[admin]", "7:1: [loopback] without the loopback driver; remove it, or write `driver = \"loopback\"` at the top"),
    ("[admin]", "[log]\nlevel = \"loud\"\n[admin]", "8:9: `loud` is not known here; write one of: error, warn, info, debug, trace"),
];

#[rustfmt::skip]
const POLICY_ROWS: &[Row] = &[
    ("name = \"web\"\n", "", "1:1: `name` is missing in the top of the file; add `name = \"web\"`"),
    ("zone = \"web.example.\"\n", "", "1:1: `zone` is missing in the top of the file; add `zone = \"web.example.\"`"),
    ("low_water =", "low_watre =", "6:1: unknown key `low_watre` in the top of the file; did you mean `low_water`?"),
    ("\"web.example.\"", "\"web.example\"", "2:8: the zone `web.example` does not end in a dot; write `web.example.`"),
    ("\"web.example.\"", "\".\"", "2:8: the zone is the root of the DNS; write a full name such as `web.example.`"),
    ("\"web.example.\"", "\"web..example.\"", "2:8: the zone `web..example.` has the bad label ``; each label has 1 to 63 of a-z, 0-9, `_` and inner hyphens"),
    ("\"web.example.\"", "\"we b.example.\"", "2:8: the zone `we b.example.` has the bad label `we b`; each label has 1 to 63 of a-z, 0-9, `_` and inner hyphens"),
    // Durations.
    ("ttl = \"5s\"", "ttl = 5", "3:7: `ttl` is an integer; write a duration in quotes, such as \"5s\""),
    ("ttl = \"5s\"", "ttl = \"5s\"\nfault_ttl = \"6s\"", "4:13: `fault_ttl` 6s is above `ttl` 5s; write at most 5s: answers are to live shorter while something is wrong"),
    ("ttl = \"5s\"", "ttl = \"5s\"\nfault_ttl = \"0s\"", "4:13: `fault_ttl` is 0s, out of range; write 1s to 1d"),
    ("ttl = \"5s\"", "ttl = \"5s\"\nall_down = \"lastknown\"", "4:12: `lastknown` is not known here; did you mean `last_known`?"),
    ("ttl = \"5s\"", "ttl = \"5s\"\nstale = \"refuse\"", "4:9: `refuse` is not known here; write one of: serve, servfail"),
    ("ttl = \"5s\"", "ttl = \"5s\"\nstale_after = \"500ms\"", "4:15: `stale_after` is 500ms, out of range; write 1s to 1d"),
    ("ttl = \"5s\"", "ttl = \"5\"", "3:7: `5` is not a duration; write a whole number and a unit: 500ms, 5s, 10m, 1h or 30d"),
    ("ttl = \"5s\"", "ttl = \"5 s\"", "3:7: `5 s` is not a duration; write a whole number and a unit: 500ms, 5s, 10m, 1h or 30d"),
    ("ttl = \"5s\"", "ttl = \"0s\"", "3:7: `ttl` is 0s, out of range; write 1s to 1d"),
    ("ttl = \"5s\"", "ttl = \"2d\"", "3:7: `ttl` is 2d, out of range; write 1s to 1d"),
    ("ttl = \"5s\"", "ttl = \"1500ms\"", "3:7: `ttl` is 1s500ms, but the DNS counts whole seconds; write 1s or more, without ms"),
    ("sample_interval = \"1s\"", "sample_interval = \"1ms\"", "8:19: `sample_interval` is 1ms, out of range; write 100ms to 1h"),
    ("orphan_ttl = \"30d\"", "orphan_ttl = \"nevr\"", "9:14: `nevr` is not a duration; write a whole number and a unit: 500ms, 5s, 10m, 1h or 30d"),
    ("orphan_ttl = \"30d\"", "orphan_ttl = \"99999d\"", "9:14: `99999d` is longer than 10 years; write a shorter duration"),
    ("orphan_ttl = \"30d\"", "orphan_ttl = \"1s\"", "9:14: `orphan_ttl` is 1s, out of range; write 1m to 3650d"),
    ("last_resort_after = \"5s\"", "last_resort_after = \"5ms\"", "12:21: `last_resort_after` is 5ms, out of range; write 1s to 1d"),
    // Numbers.
    ("min_addresses = 1", "min_addresses = 0", "4:17: `min_addresses` is 0, out of range; write a whole number from 1 to 1000"),
    ("min_addresses = 1", "min_addresses = 1.5", "4:17: `min_addresses` is a float; write a whole number from 1 to 1000"),
    ("scale = 1000", "scale = 99", "7:9: `scale` is 99, out of range; write a whole number from 100 to 1000"),
    ("scale = 1000", "scale = 100", "5:14: `high_water` 800 is above `scale` 100; write a mark of at most 100"),
    ("low_water = 500", "low_water = 800", "6:13: `low_water` 800 is not below `high_water` 800; leave a gap, or a host would flap in and out of the zone"),
    ("high_water = 800", "high_water = -1", "5:14: `high_water` is -1, out of range; write a whole number from 1 to 1000"),
    // Words.
    ("\"balanced\"", "\"ballanced\"", "10:13: `ballanced` is not known here; did you mean `balanced`?"),
    ("\"hold\"", "\"drop\"", "11:15: `drop` is not known here; write one of: hold, last_resort"),
    ("\"prefer\"", "\"lazy\"", "13:13: `lazy` is not known here; write one of: prefer, sticky"),
    // Tests and loads.
    ("http = { url = \"http://{address}/health\", expect_status = 200 }", "", "15:1: [[test]] has no kind; add exactly one of: exec, tcp, http, https, dns, process, interface"),
    ("rise = 2", "tcp = { target = \"{address}:80\" }", "20:7: [[test]] has two kinds: http and tcp; keep one; write another object for the other"),
    ("timeout = \"500ms\"", "timeout = \"2s\"", "19:11: `timeout` 2s is longer than `interval` 1s; a run must end before the next begins: shorten one or lengthen the other"),
    ("rise = 2", "rise = 0", "20:8: `rise` is 0, out of range; write a whole number from 1 to 100"),
    ("expect_status = 200", "expect_status = 1000", "17:59: `expect_status` is 1000, out of range; write a whole number from 100 to 599"),
    ("expect_status = 200", "status = 200", "17:43: unknown key `status` in `http = { … }`; remove it; known here: url, expect_status, expect_body"),
    ("http://{address}/health", "https://{address}/health", "17:16: `https://{address}/health` does not start with http://; write a full URL"),
    ("http = { url = \"http://", "https = { url = \"https://", "17:17: no certificate names an address that moves; add `host = \"www.example\"`, the name in the certificate, or `verify = false`"),
    ("http = { url = \"http://{address}/health\"", "https = { url = \"https://{address}/health\", host = \"a b\"", "17:52: `a b` is not a host name; write one such as www.example, without scheme and port"),
    ("http = { url = \"http://{address}/health\"", "https = { url = \"https://{address}/\", verify = false, ca = \"/ca.pem\"", "17:60: `ca` says nothing beside `verify = false`; remove one of them"),
    ("http://{address}/health", "http://{addr}/health", "17:16: `http://{addr}/health` has an unknown placeholder; only {address} is filled in"),
    ("[[load]]", "[[test]]\nname = \"http\"\ntcp = { target = \"{address}:80\" }\n[[load]]", "24:8: the name `http` is used twice (first in line 16); give each object its own name"),
    ("cpu = {}", "exec = { command = [] }", "25:20: `command` is empty; write the program and its arguments: [\"/usr/local/bin/check\", \"--fast\"]"),
    ("cpu = {}", "exec = { command = [\"load\"] }", "25:20: `load` is not an absolute path; write it from `/` on"),
    ("cpu = {}", "cpu = { core = 1 }", "25:9: unknown key `core` in `cpu = { … }`; remove it; nothing goes in here"),
    ("cpu = {}", "connections = {}", "25:15: `capacity` is missing in `connections = { … }`; add `capacity = 1000`"),
    ("cpu = {}", "pressure = { resource = \"gpu\" }", "25:25: `gpu` is not known here; did you mean `cpu`?"),
    ("name = \"cpu\"\n", "", "23:1: `name` is missing in [[load]]; add `name = \"http\"`"),
    // Scripts, transfer, traps.
    ("\"/etc/rais/web-acquire\"", "\"web-acquire\"", "28:11: `web-acquire` is not an absolute path; write it from `/` on"),
    ("timeout = \"5s\"", "timeout = \"1d\"", "30:11: `timeout` is 1d, out of range; write 10ms to 10m"),
    ("notify = [\"10.77.0.53:53\"]", "notify = [\"10.77.0.53\"]", "33:11: `10.77.0.53` has no port; write it as `10.77.0.53:7400`"),
    ("allow = [\"10.77.0.53\"]", "allow = [\"ns.example\"]", "34:10: `ns.example` is not an IP address; write one IP address without a port, or a network: \"10.77.0.53\" or \"10.77.0.0/24\""),
    ("allow = [\"10.77.0.53\"]", "allow = [\"10.77.0.53/24\"]", "34:10: `10.77.0.53/24` has bits after its prefix; write `10.77.0.0/24`, or one address without a prefix"),
    ("allow = [\"10.77.0.53\"]", "allow = [\"10.77.0.0/33\"]", "34:10: `10.77.0.0/33` has a bad prefix length; write 0 to 32 after the slash"),
    ("\"2c\"", "\"1\"", "38:48: `1` is not a version of SNMP that traps are sent in; write `version = \"2c\"` or `version = \"3\"`"),
    ("\"2c\", community", "\"3\", user = \"rais\", community", "38:80: `community` does not go with this version; write `user` instead: 2c has a community, 3 a user"),
    (", community = \"public\"", "", "38:9: `community` is missing in snmp = [{ target = …, version = …, community = … }]; add `community = \"public\"`"),
    ("https://hooks.example/rais", "hooks.example/rais", "39:12: `hooks.example/rais` does not start with https:// or http://; write a full URL"),
    ("https://hooks.example/rais", "https://me:pw@hooks.example/rais", "39:12: `https://me:pw@hooks.example/rais` is no URL for a webhook; leave out name and password; sign with `key` instead"),
    ("\"https://hooks.example/rais\"", "{ key = \"k\" }", "39:12: `url` is missing in `webhook`; add `url = \"https://hooks.example/rais\"`"),
    ("\"https://hooks.example/rais\"", "7", "39:12: `webhook` holds an integer; write strings or tables: webhook = [\"https://hooks.example/rais\"]"),
];

/// The headlines of what is wrong with `good` after the row's edit.
fn headlines(good: &str, row: &Row, host: bool) -> Vec<String> {
    assert_eq!(
        good.matches(row.0).count().min(1),
        1,
        "the piece {:?} is not in the good file",
        row.0
    );
    let bad = good.replacen(row.0, row.1, 1);
    let errors = if host {
        parse_host("f", &bad).err()
    } else {
        parse_policy("f", &bad).err()
    };
    errors
        .map(|all| {
            all.found()
                .iter()
                .map(super::Diagnostic::headline)
                .collect()
        })
        .unwrap_or_default()
}

/// The rows whose headline did not come, with what came instead.
fn misses(good: &str, rows: &[Row], host: bool) -> Vec<String> {
    let miss = |row: &Row| {
        let found = headlines(good, row, host);
        let told = |found: &Vec<String>| {
            found
                .iter()
                .any(|one| one == row.2 || one.starts_with(row.2))
        };
        (!told(&found)).then(|| format!("{:?}: wanted {:?}, found {found:?}", row.1, row.2))
    };
    rows.iter().filter_map(miss).collect()
}

/// Goal: each mistake is named with its line, its column and what to do.
/// Method: break one thing of the contract's example at a time.
#[test]
fn each_mistake_of_a_host_configuration_is_placed_and_has_a_remedy() {
    assert_eq!(misses(HOST, HOST_ROWS, true), Vec::<String>::new());
}

/// Goal and method as above, for a group's policy.
#[test]
fn each_mistake_of_a_policy_is_placed_and_has_a_remedy() {
    assert_eq!(misses(POLICY, POLICY_ROWS, false), Vec::<String>::new());
}

/// Goal: one run shows every mistake, in the order of the file.
/// Method: several mistakes in several sections at once.
#[test]
fn all_mistakes_are_shown_at_once() {
    let bad = HOST
        .replace("\"h1\"", "\"H1\"")
        .replace(":53\"", ":0\"")
        .replace("\"eth0\"", "7")
        .replace("/64", "/640");
    let all = parse_host("rais.toml", &bad).unwrap_err();
    let lines: Vec<usize> = all.found().iter().map(|one| one.line).collect();
    assert_eq!(lines, [1, 11, 17, 18], "{all}");
    assert!(all.to_string().starts_with("rais.toml:1:8: the host name `H1` has an upper-case letter; write `h1`\n 1 | name = \"H1\"\n   |        ^^^^"), "{all}");
}

/// Goal: the contract's examples are good files, and mean what they say.
/// Method: read them and look at a few values, `observer` below [dns] included.
#[test]
fn the_examples_of_the_contract_are_read() {
    let host = parse_host("rais.toml", HOST).unwrap();
    assert_eq!(
        (host.control.len(), host.dns.len(), host.members.len()),
        (2, 1, 1)
    );
    assert_eq!(host.members[0].preferred[1].to_string(), "fd00:77::101/64");
    let observer = HOST
        .replace("observer = false", "observer = true")
        .split("[[member]]")
        .next()
        .map(|text| parse_host("f", text));
    assert!(observer.unwrap().unwrap().observer);
    let policy = parse_policy("web.toml", POLICY).unwrap();
    assert_eq!(
        (policy.ttl_s, policy.orphan_ttl_ms, policy.tests.len()),
        (5, Some(30 * 86_400_000), 1)
    );
    assert_eq!(policy.check(), Ok(()));
}

/// Goal: a short file gets the documented defaults.
/// Method: only what is required.
#[test]
fn defaults_are_those_of_the_contract() {
    let short = parse_policy("f", "name = 'web'\nzone = 'web.example.'").unwrap();
    assert_eq!(short, statemachine::Policy::new("web", "web.example."));
    let never = parse_policy(
        "f",
        "name = 'web'\nzone = 'web.example.'\norphan_ttl = 'never'",
    )
    .unwrap();
    assert_eq!(never.orphan_ttl_ms, None);
    let small = parse_policy("f", "name = 'web'\nzone = 'web.example.'\nscale = 100").unwrap();
    assert_eq!((small.high_water, small.low_water), (80, 50));
    let host = parse_host(
        "f",
        "name = 'h1'\ndata_dir = '/d'\n[control]\nlisten = ['10.0.0.1:7400']",
    )
    .unwrap();
    assert_eq!(
        host,
        super::HostConfig::new("h1", "/d", vec!["10.0.0.1:7400".parse().unwrap()])
    );
}

/// Goal: `rais check` and `rais group apply` tell the two kinds of file apart.
/// Method: good files, files with a mistake, files that are neither.
#[test]
fn the_kind_of_file_is_told_by_its_content() {
    assert!(matches!(check("f", HOST), Ok(ConfigFile::Host(_))));
    assert!(matches!(check("f", POLICY), Ok(ConfigFile::Policy(_))));
    assert!(
        check("f", "zone = 'web.example.'")
            .unwrap_err()
            .to_string()
            .contains("add `name = \"web\"`")
    );
    assert!(
        check("f", "[package]\nname = 'x'")
            .unwrap_err()
            .to_string()
            .contains("neither a host configuration nor a group policy")
    );
    assert!(check("f", "").is_err());
    assert!(
        check("f", "= = =")
            .unwrap_err()
            .to_string()
            .contains("f:1:1: not valid TOML")
    );
}

/// Goal: what is written reads back as the same value.
/// Method: the examples, and a policy with every kind of object.
#[test]
fn written_files_read_back_the_same() {
    let host = parse_host("f", HOST).unwrap();
    assert_eq!(parse_host("f", &host.to_toml()).unwrap(), host);
    let demo = HOST
        .replace("name = \"h1\"", "name = \"h1\"\ndriver = 'loopback'")
        .replace("10.77.0.101/24\", \"fd00:77::101/64", "127.77.1.1/32");
    let mut demo = parse_host("f", &demo).unwrap();
    demo.admin_open_on_loopback = true;
    assert_eq!(parse_host("f", &demo.to_toml()).unwrap(), demo);
    let all = parse_policy("f", &every_kind()).unwrap();
    assert_eq!((all.tests.len(), all.loads.len()), (8, 6));
    assert_eq!(parse_policy("f", &policy_to_toml(&all)).unwrap(), all);
    assert_eq!(policy_diff(Some(&all), &all), Vec::<String>::new());
}

/// The example policy with one object of each kind.
pub(super) fn every_kind() -> String {
    let objects = r#"
[[test]]
name = "t1"
exec = { command = ["/bin/true", "a\"b"] }
[[test]]
name = "t2"
tcp = { target = "{address}:80" }
[[test]]
name = "t3"
dns = { server = "[fd00::1]:53", query = "www.example." }
[[test]]
name = "t4"
process = { pid_file = "/run/x.pid" }
[[test]]
name = "t5"
interface = { name = "eth0", gateway = "10.0.0.1" }
[[test]]
name = "t6"
https = { url = "https://{address}:444/", host = "www.example", ca = "/etc/ca.pem", expect_body = "ok" }
[[test]]
name = "t7"
https = { url = "https://{address}/", verify = false, expect_status = 204 }
[[load]]
name = "l1"
exec = { command = ["/bin/load"] }
[[load]]
name = "l2"
net = { interface = "eth0" }
[[load]]
name = "l3"
connections = { capacity = 1000 }
[[load]]
name = "l4"
http = { url = "http://{address}/load", field = "a.b", capacity = 10 }
[[load]]
name = "l5"
interval = "100ms"
pressure = { resource = "io" }
"#;
    format!("{POLICY}{objects}").replace("orphan_ttl = \"30d\"", "orphan_ttl = \"never\"")
}

/// Goal: `rais group apply` shows what changes, and only that.
/// Method: change a value, an object and a section.
#[test]
fn the_difference_names_each_change_once() {
    let old = parse_policy("f", POLICY).unwrap();
    let new = POLICY
        .replace("ttl = \"5s\"", "ttl = \"9s\"")
        .replace(
            "name = \"cpu\"\ncpu = {}",
            "name = \"net\"\nnet = { interface = \"eth0\" }",
        )
        .replace("tsig = \"xfer-key\"\n", "");
    let new = parse_policy("f", &new).unwrap();
    let changes = policy_diff(Some(&old), &new);
    assert_eq!(changes[0], "~ ttl = \"5s\" -> \"9s\"");
    assert!(
        changes.contains(&"+ load net: net = { interface = \"eth0\" }".to_owned()),
        "{changes:#?}"
    );
    assert!(changes.contains(&"- load cpu: cpu = {}".to_owned()));
    assert!(changes.contains(&"- transfer.tsig = \"xfer-key\"".to_owned()));
    assert_eq!(policy_diff(None, &new)[0], "+ name = \"web\"");
}
