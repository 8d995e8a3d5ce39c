//! Checks the job graph for cycles, and for jobs that no source can start.

use std::collections::{HashMap, HashSet};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;

use super::checker::{Checker, quoted};

/// The most jobs that the message about a cycle names.
const MAX_NAMED_JOBS: usize = 20;

impl<'a> Checker<'a> {
    /// Checks for cycles and for jobs that depend on no source.
    pub(super) fn graph(&mut self, names: &HashMap<&'a str, usize>) {
        let mut graph: DiGraph<usize, ()> =
            DiGraph::with_capacity(self.jobs.len() + 1, self.jobs.len());
        let nodes: Vec<NodeIndex> = (0..self.jobs.len())
            .map(|index| graph.add_node(index))
            .collect();
        let start = graph.add_node(usize::MAX);
        // Jobs with no or unknown inputs are reported already. They count as reachable, so that
        // neither they nor the jobs that wait for them are reported again.
        for (index, job) in self.jobs.iter().enumerate() {
            if job.inputs.is_empty() {
                graph.update_edge(start, nodes[index], ());
            }
            for name in &job.inputs {
                match names.get(name.as_str()) {
                    Some(from) => graph.update_edge(nodes[*from], nodes[index], ()),
                    None => graph.update_edge(start, nodes[index], ()),
                };
            }
        }
        let mut in_cycle: HashSet<usize> = HashSet::new();
        // Not tarjan_scc, which recurses: a chain of 10,000 jobs would overflow the stack.
        for component in kosaraju_scc(&graph) {
            let node = component[0];
            if component.len() > 1 || graph.contains_edge(node, node) {
                let mut members: Vec<usize> = component.iter().map(|node| graph[*node]).collect();
                members.sort_unstable();
                in_cycle.extend(&members);
                self.cycle(&members, names);
            }
        }
        let mut reached: HashSet<NodeIndex> = HashSet::new();
        let mut walk = Dfs::new(&graph, start);
        while let Some(node) = walk.next(&graph) {
            reached.insert(node);
        }
        for (index, job) in self.jobs.iter().enumerate() {
            if !reached.contains(&nodes[index]) && !in_cycle.contains(&index) {
                let message = format!(
                    "job `{}` can never start: it does not depend on any source",
                    quoted(&job.id)
                );
                let hint = format!(
                    "make `{}`, or a job before it, wait for a source such as :quire/push",
                    quoted(&job.inputs[0])
                );
                self.problem_with_hint(message, &job.location, hint);
            }
        }
    }

    /// Reports a cycle in a strongly connected component. Each named job waits for the one after it.
    fn cycle(&mut self, members: &[usize], names: &HashMap<&'a str, usize>) {
        let within: HashSet<usize> = members.iter().copied().collect();
        let mut path = vec![members[0]];
        let mut position: HashMap<usize, usize> = HashMap::from([(members[0], 0)]);
        // Each member waits for at least one member. Following the first such input must therefore
        // return to a job on the path, and the path from that job on is a cycle.
        let cycle = loop {
            let current = path[path.len() - 1];
            let next = self.jobs[current]
                .inputs
                .iter()
                .filter_map(|name| names.get(name.as_str()).copied())
                .find(|job| within.contains(job));
            let Some(next) = next else { break path };
            if let Some(at) = position.get(&next) {
                break path.split_off(*at);
            }
            position.insert(next, path.len());
            path.push(next);
        };
        let lowest = cycle
            .iter()
            .enumerate()
            .min_by_key(|(_, job)| **job)
            .map_or(0, |(at, _)| at);
        let order: Vec<usize> = cycle
            .iter()
            .cycle()
            .skip(lowest)
            .take(cycle.len())
            .copied()
            .collect();
        let location = self.jobs[order[0]].location.clone();
        let name = |job: usize| quoted(&self.jobs[job].id);
        let (message, hint) = if order.len() == 1 {
            (
                format!("job `{}` waits for itself", name(order[0])),
                "remove it from its own inputs".to_owned(),
            )
        } else {
            let chain: Vec<String> = order
                .iter()
                .take(MAX_NAMED_JOBS)
                .map(|job| format!("`{}`", name(*job)))
                .collect();
            let more = if order.len() > MAX_NAMED_JOBS {
                " → …"
            } else {
                ""
            };
            let others = match members.len().saturating_sub(order.len()) {
                0 => String::new(),
                1 => " (and 1 more job is part of a cycle with them)".to_owned(),
                others => format!(" (and {others} more jobs are part of a cycle with them)"),
            };
            let message = format!(
                "the jobs form a cycle: {}{more} → `{}`{others}",
                chain.join(" → "),
                name(order[0])
            );
            (
                message,
                "remove one of these inputs (each job waits for the one after it)".to_owned(),
            )
        };
        self.problem_with_hint(message, &location, hint);
    }
}
