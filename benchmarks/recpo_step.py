"""One RecPO step, item tower included, against one step of TRL's stock ``GRPOTrainer``."""

from common import FLOPS, finish, in_turn, load, machine, options, spread
from steps import Steps


def main() -> None:
    chosen = options(__doc__)
    profile, policy = load(chosen.quick)
    steps = Steps(profile, policy, chosen.quick)
    limits = machine(policy.compute_dtype, chosen.quick)
    seconds = in_turn({"ours": steps.ours, "stock": steps.stock}, chosen.rounds)
    lever = in_turn({"ours": steps.ours, "apart": steps.apart}, 1, warm_up=False)
    trajectories = steps.users * steps.group_size
    figures = {
        "dtype": str(policy.compute_dtype),
        "machine": limits,
        "trajectories_per_second": {n: spread([trajectories / s for s in v]) for n, v in seconds.items()},
        "share_of_matrix_peak": {
            n: steps.flops() / spread(v)["median"] / 1e9 / limits["matrix_gflops"] for n, v in seconds.items()
        },
        "flops": f"{FLOPS}; backward down to the first adapted layer; without the items' encoding",
        "item_table_refresh_seconds": steps.refresh_seconds,
        "lever_packed_update": lever["apart"][0] / lever["ours"][0],
    }
    ratios = [stock / ours for ours, stock in zip(seconds["ours"], seconds["stock"], strict=True)]
    finish("recpo_step", ratios, figures, chosen)


if __name__ == "__main__":
    main()
