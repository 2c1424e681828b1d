//! Plays a story: orders go to a simulated array, what it tells goes below them.
//!
//! A block is orders, `----`, output, and an empty line. Lines that begin with `#` are for readers.

mod order;
mod show;

use chaos::World;

/// What separates orders from what came of them.
const RULE: &str = "----";

/// Plays `text` and returns it with the outputs that came.
pub fn play(text: &str) -> Result<String, String> {
    let mut world: Option<World> = None;
    let mut told = String::new();
    let mut lines = text.lines().enumerate();
    let mut pending: Vec<String> = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line != RULE {
            told += line;
            told.push('\n');
            let order = line.trim();
            if !order.is_empty() && !order.starts_with('#') {
                pending.push(order.to_owned());
                continue;
            }
            if !pending.is_empty() && !order.starts_with('#') {
                return Err(format!("line {}: orders without `{RULE}`", number + 1));
            }
            continue;
        }
        told += RULE;
        told.push('\n');
        for (_, old) in lines.by_ref() {
            if old.is_empty() {
                break;
            }
        }
        for order in pending.drain(..) {
            told += &obey(&mut world, &order).map_err(|why| format!("`{order}`: {why}"))?;
        }
        told.push('\n');
    }
    Ok(told.trim_end().to_owned() + "\n")
}

fn obey(world: &mut Option<World>, order: &str) -> Result<String, String> {
    let from = world.as_ref().map_or(0, |world| world.trace().len());
    let shown = order::obey(world, order)?;
    let world = world.as_ref().ok_or("no array yet")?;
    let from = if order.starts_with("quietly") {
        usize::MAX
    } else {
        from
    };
    let mut told: String = world
        .trace()
        .since(from)
        .map(|line| format!("{line}\n"))
        .collect();
    told += &shown;
    if let Some(broken) = world.broken() {
        told += &format!("BROKEN {broken}\n");
    }
    Ok(told)
}

/// The first line that differs, with both readings; none when the texts are the same.
pub fn difference(told: &str, played: &str) -> Option<String> {
    if told == played {
        return None;
    }
    let end = "(end)";
    let mut both = told.lines().zip(played.lines());
    let at = both.position(|(old, new)| old != new);
    let at = at.unwrap_or_else(|| told.lines().count().min(played.lines().count()));
    let old = told.lines().nth(at).unwrap_or(end);
    let new = played.lines().nth(at).unwrap_or(end);
    Some(format!("line {}\n  told   {old}\n  played {new}", at + 1))
}
