//! Holds the steps of a layer against the reference, each from the fast pass's own inputs.

use moe_model::{Departure, ReferenceActivations, ReferenceRows, ReferenceSteps, Route};
use quant_kernels::{Norm, Team};

use super::{
    choice::{self, Choice},
    distance::{Distance, UNIT, norm, sum_error},
    trace::{LayerTrace, Trace},
};

/// A step of a layer, in the order they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The norm before queries, keys and values.
    AttentionInput,
    /// Queries, keys and values, their norms and rotation, and attention.
    Attention,
    /// Attention's output product, the residual stream and the norm before the router.
    RouterInput,
    /// Which experts the router chooses.
    Choice,
    /// What the chosen ones' shares are.
    Shares,
    /// Gate and up of the experts.
    Gated,
    /// Down of the experts, their sum and the residual stream.
    Output,
}

impl Step {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AttentionInput => "norm before attention",
            Self::Attention => "attention",
            Self::RouterInput => "attention output and norm before the router",
            Self::Choice => "router choice",
            Self::Shares => "router shares",
            Self::Gated => "gate and up",
            Self::Output => "expert output",
        }
    }
}

/// A layer that was held against the reference.
#[derive(Clone, Debug)]
pub(super) struct LayerCheck {
    /// Every step that is measured, in order.
    pub(super) steps: Vec<(Step, Distance)>,
    /// What became of each token's choice.
    pub(super) choices: Vec<Choice>,
    /// The residual stream after the layer against the reference's, from the same input.
    pub(super) hidden: Distance,
}

impl LayerCheck {
    /// Returns the first step that left its bound.
    pub(super) fn first_wrong(&self) -> Option<(Step, usize)> {
        let is_wrong = |choice: &Choice| matches!(choice, Choice::Wrong | Choice::WrongOrder);
        let wrong_choice = self.choices.iter().position(is_wrong);
        for (step, distance) in &self.steps {
            if let (Step::Shares, Some(token)) = (step, wrong_choice) {
                return Some((Step::Choice, token));
            }
            if !distance.is_good() {
                return Some((*step, distance.row));
            }
        }
        None
    }

    /// Returns what was measured of a step.
    pub(super) fn of(&self, step: Step) -> Option<&Distance> {
        let mut steps = self.steps.iter();
        steps.find(|(of, _)| *of == step).map(|(_, found)| found)
    }
}

/// A layer, and what goes into it.
#[derive(Clone, Copy)]
pub(super) struct Layer<'t, 'm, 'a> {
    pub(super) idx: usize,
    /// Of the architecture, with rounded activations.
    pub(super) steps: ReferenceSteps<'m, 'a>,
    /// Residual stream before the layer `[T][E]`.
    pub(super) input: &'t ReferenceRows,
    pub(super) trace: &'t LayerTrace,
}

/// The residual stream between attention and experts, and how far off it may be.
pub(super) struct Middle {
    /// What attention adds `[T][E]`.
    pub(super) added: ReferenceRows,
    /// The stream `[T][E]`.
    pub(super) stream: ReferenceRows,
    /// For each number, how far off it may be.
    errors: ReferenceRows,
}

impl<'t, 'm, 'a> Layer<'t, 'm, 'a> {
    pub(super) fn of(trace: &'t Trace, idx: usize, steps: ReferenceSteps<'m, 'a>) -> Self {
        Self {
            idx,
            steps,
            input: trace.input(idx),
            trace: &trace.layers[idx],
        }
    }

    /// Holds all steps against the reference.
    pub(super) fn check(&self, team: &Team<'_>) -> LayerCheck {
        let middle = self.middle(team);
        let scores = self.steps.scores(team, self.idx, &self.trace.router_input);
        let outputs = self.expert_outputs(team);
        let (hidden, output) = self.output(&middle, &self.sums(&outputs, Self::shares), &outputs);
        let steps = vec![
            (Step::AttentionInput, self.attention_input()),
            (Step::Attention, self.attention(team, self.steps)),
            (Step::RouterInput, self.router_input(&middle)),
            (Step::Shares, self.router_shares(self.steps, &scores)),
            (Step::Gated, self.gated(team, self.steps)),
            (Step::Output, output),
        ];
        LayerCheck {
            steps,
            choices: self.choices(&scores),
            hidden,
        }
    }

    fn attention_input(&self) -> Distance {
        let expected = self.steps.norm(self.input, &self.weights().attn_norm);
        let error = sum_error(self.config().n_embd);
        Distance::of(&self.trace.attention_input, &expected, |t| {
            error * norm(&expected[t])
        })
    }

    /// A relative error of queries and keys moves each score by as much times its size, and
    /// the softmax hands that on to the shares of the values.
    pub(super) fn attention(&self, team: &Team<'_>, steps: ReferenceSteps<'_, '_>) -> Distance {
        let expected = steps.attention(team, self.idx, &self.trace.attention_input);
        let error = sum_error(self.config().n_embd) * (1.0 + 2.0 * expected.largest_score);
        Distance::of(&self.trace.attended, &expected.rows, |_| {
            error * expected.largest_value
        })
    }

    pub(super) fn middle(&self, team: &Team<'_>) -> Middle {
        let added = self
            .steps
            .attention_output(team, self.idx, &self.trace.attended);
        let error = sum_error(self.config().q_len());
        let mut middle = Middle {
            stream: sum(self.input, &added),
            errors: Vec::new(),
            added,
        };
        let rows = middle.added.iter().zip(&middle.stream);
        let errors = rows.map(|(added, stream)| {
            let of_product = error * norm(added) / (added.len() as f64).sqrt();
            let of = |x: &f64| of_product.hypot(4.0 * UNIT * x.abs());
            stream.iter().map(of).collect()
        });
        middle.errors = errors.collect();
        middle
    }

    /// A norm's weights may be large where the stream is small, so errors are weighted too.
    pub(super) fn router_input(&self, middle: &Middle) -> Distance {
        let weight = &self.weights().ffn_norm;
        let expected = self.steps.norm(&middle.stream, weight);
        let error = sum_error(self.config().n_embd);
        Distance::of(&self.trace.router_input, &expected, |t| {
            let weighted = |row: &[f64]| -> Vec<f64> {
                row.iter()
                    .zip(weight)
                    .map(|(x, w)| x * f64::from(*w))
                    .collect()
            };
            let size = norm(&expected[t]);
            let scale = size / norm(&weighted(&middle.stream[t]));
            let carried = scale * norm(&weighted(&middle.errors[t]));
            error * size + if carried.is_nan() { 0.0 } else { carried }
        })
    }

    /// How far off a score of a token's router may be.
    fn score_error(&self, scores: &[f64]) -> f64 {
        let largest = scores.iter().fold(0.0f64, |m, score| m.max(score.abs()));
        sum_error(self.config().n_embd) * largest
    }

    pub(super) fn choices(&self, scores: &ReferenceRows) -> Vec<Choice> {
        let tokens = scores.iter().zip(&self.trace.routes);
        let judged = tokens.map(|(scores, routes)| {
            choice::judge(scores, &experts(routes), self.score_error(scores))
        });
        judged.collect()
    }

    pub(super) fn router_shares(
        &self,
        steps: ReferenceSteps<'_, '_>,
        scores: &ReferenceRows,
    ) -> Distance {
        let expected: ReferenceRows = scores
            .iter()
            .zip(&self.trace.routes)
            .map(|(scores, routes)| steps.shares(&steps.probabilities(scores), &experts(routes)))
            .collect();
        let found = self.trace.routes.iter().map(|routes| Self::shares(routes));
        let rounding = sum_error(self.config().n_expert);
        Distance::of(&found.collect(), &expected, |t| {
            (rounding + 2.0 * self.score_error(&scores[t])) * norm(&expected[t])
        })
    }

    /// All pairs of token and expert, one after the other.
    pub(super) fn gated(&self, team: &Team<'_>, steps: ReferenceSteps<'_, '_>) -> Distance {
        let x = &self.trace.router_input;
        let expected = self.by_expert(|expert, slots| {
            let rows = slots.iter().map(|&(t, _)| x[t].clone()).collect();
            steps.gated(team, self.idx, expert, &rows)
        });
        let (found, expected) = (self.trace.gated.concat(), expected.concat());
        // Two products, and the slope of `silu`.
        let error = 4.0 * sum_error(self.config().n_embd);
        let mut distance = Distance::of(&found, &expected, |slot| error * norm(&expected[slot]));
        distance.row /= self.config().n_expert_used;
        distance
    }

    /// What each chosen expert says of what the fast pass gave it `[T][U][E]`.
    pub(super) fn expert_outputs(&self, team: &Team<'_>) -> Vec<ReferenceRows> {
        self.by_expert(|expert, slots| {
            let gated = slots.iter().map(|&(t, u)| self.trace.gated[t][u].clone());
            let gated = gated.collect();
            self.steps.expert_output(team, self.idx, expert, &gated)
        })
    }

    /// Adds the experts' outputs up `[T][E]`.
    pub(super) fn sums(
        &self,
        outputs: &[ReferenceRows],
        shares: impl Fn(&[Route]) -> Vec<f64>,
    ) -> ReferenceRows {
        let n_embd = self.config().n_embd;
        let tokens = outputs.iter().zip(&self.trace.routes);
        let sums = tokens.map(|(outputs, routes)| {
            let mut sum = vec![0.0; n_embd];
            for (share, out) in shares(routes).iter().zip(outputs) {
                sum.iter_mut()
                    .zip(out)
                    .for_each(|(sum, x)| *sum += share * x);
            }
            sum
        });
        sums.collect()
    }

    /// Measures the residual stream after the layer, and what the experts added to it, for
    /// sums of their `outputs`.
    pub(super) fn output(
        &self,
        middle: &Middle,
        sums: &ReferenceRows,
        outputs: &[ReferenceRows],
    ) -> (Distance, Distance) {
        let expected = sum(&middle.stream, sums);
        let error = sum_error(self.config().n_ff_exp);
        let bound = |t: usize| {
            let shares = Self::shares(&self.trace.routes[t]);
            let sizes = shares.iter().zip(&outputs[t]);
            let size: f64 = sizes.map(|(share, out)| share.abs() * norm(out)).sum();
            error * size + norm(&middle.errors[t]) + 4.0 * UNIT * norm(&expected[t])
        };
        let said: ReferenceRows = self
            .trace
            .hidden
            .iter()
            .zip(&middle.stream)
            .map(|(hidden, middle)| hidden.iter().zip(middle).map(|(a, b)| a - b).collect())
            .collect();
        (
            Distance::of(&self.trace.hidden, &expected, bound),
            Distance::of(&said, sums, bound),
        )
    }

    /// Returns a token's shares as the fast pass has them.
    pub(super) fn shares(routes: &[Route]) -> Vec<f64> {
        let shares = routes.iter().map(|route| f64::from(route.weight));
        shares.collect()
    }

    /// Asks each expert once for all pairs of token and place that chose it; `[T][U][_]`.
    fn by_expert(
        &self,
        mut ask: impl FnMut(usize, &[(usize, usize)]) -> ReferenceRows,
    ) -> Vec<ReferenceRows> {
        let routes = &self.trace.routes;
        let mut all: Vec<ReferenceRows> = routes
            .iter()
            .map(|routes| vec![Vec::new(); routes.len()])
            .collect();
        for expert in 0..self.config().n_expert {
            let mut slots = Vec::new();
            for (t, routes) in routes.iter().enumerate() {
                let places = routes.iter().enumerate();
                let places = places.filter(|(_, route)| route.expert as usize == expert);
                slots.extend(places.map(|(u, _)| (t, u)));
            }
            for (&(t, u), row) in slots.iter().zip(ask(expert, &slots)) {
                all[t][u] = row;
            }
        }
        all
    }

    pub(super) fn config(&self) -> &'m moe_model::Config {
        self.steps.model().config()
    }

    pub(super) fn weights(&self) -> &'m moe_model::LayerWeights<'a> {
        &self.steps.model().weights().layers[self.idx]
    }

    /// The steps with a mistake.
    pub(super) fn departing(&self, departure: Departure) -> ReferenceSteps<'m, 'a> {
        let rounded = ReferenceActivations::Quantized;
        ReferenceSteps::new(self.steps.model(), rounded, Some(departure))
    }
}

/// Holds the head against the reference: the norm before it, and the logits of what that norm
/// gives in `f32`.
pub(super) fn check_head(
    team: &Team<'_>,
    steps: ReferenceSteps<'_, '_>,
    hidden: &ReferenceRows,
    logits: &ReferenceRows,
) -> [Distance; 2] {
    let (config, weights) = (steps.model().config(), steps.model().weights());
    let normed = head_input(team, steps, hidden);
    let error = sum_error(config.n_embd);
    let expected_normed = steps.norm(hidden, &weights.output_norm);
    let expected = steps.logits(team, &normed);
    [
        Distance::of(&normed, &expected_normed, |t| {
            error * norm(&expected_normed[t])
        }),
        Distance::of(logits, &expected, |t| error * norm(&expected[t])),
    ]
}

/// Norms rows in `f32` as the fast pass does before the head.
pub(super) fn head_input(
    team: &Team<'_>,
    steps: ReferenceSteps<'_, '_>,
    hidden: &ReferenceRows,
) -> ReferenceRows {
    let norm = Norm {
        weight: &steps.model().weights().output_norm,
        eps: steps.model().config().rms_eps,
    };
    let rows = hidden.iter().map(|row| {
        let row: Vec<f32> = row.iter().map(|&x| x as f32).collect();
        let mut normed = vec![0.0; row.len()];
        team.isa().rms_norm(&row, norm, &mut normed);
        normed.into_iter().map(f64::from).collect()
    });
    rows.collect()
}

fn experts(routes: &[Route]) -> Vec<u32> {
    routes.iter().map(|route| route.expert).collect()
}

/// Returns the sum of two lists of rows.
pub(super) fn sum(a: &ReferenceRows, b: &ReferenceRows) -> ReferenceRows {
    let rows = a.iter().zip(b);
    rows.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect())
        .collect()
}
