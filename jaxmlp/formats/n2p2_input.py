"""The file input.nn of n2p2 and RuNNer: its keywords, and what it says about the networks."""

from pathlib import Path

from ase.data import atomic_numbers, chemical_symbols

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import TextReader, Words

SINGLE = (
    "number_of_elements", "elements", "mean_energy", "conv_energy", "conv_length", "cutoff_type", "scale_min_short",
    "scale_max_short", "global_hidden_layers_short", "global_nodes_short", "global_activation_short",
    "scale_symmetry_functions", "center_symmetry_functions", "scale_symmetry_functions_sigma", "normalize_nodes",
)  # fmt: skip
REPEATED = (
    "symfunction_short", "atom_energy", "element_hidden_layers_short", "element_nodes_short",
    "element_activation_short",
)  # fmt: skip
ALIASES = {
    "scale_min_short_atomic": "scale_min_short", "scale_max_short_atomic": "scale_max_short",
    "global_nodes_short_atomic": "global_nodes_short",
}  # fmt: skip
KINDS = {  # keywords that choose the kind of model, and the values that mean the one supported
    "nnp_type": ("2", "2G", "2G-HDNNP"), "nn_type": ("2", "2G", "2G-HDNNP"), "nnp_gen": ("2",), "nn_type_short": ("1",),
    "vdw_type": ("0",), "nn_type_vdw": ("0",),
}  # fmt: skip
REFUSED = {
    **dict.fromkeys(("use_electrostatics", "use_electrostatic_nn", "use_fixed_charges"), "charges"),
    **dict.fromkeys(("use_vdw", "use_hamiltonian"), "these terms"),
    **dict.fromkeys(
        ("global_symfunction_short", "global_symfunction_short_atomic", "element_symfunction_short"),
        "symmetry functions for many elements in one line; write a symfunction_short for each",
    ),
    **dict.fromkeys(
        ("pairsymfunction_short", "global_pairsymfunction_short", "element_pairsymfunction_short"), "networks of pairs"
    ),
}
# How the networks were trained, what is printed, and parameters of terms whose switches are refused above.
_IGNORED = """
    analyze_composition analyze_error analyze_error_charge_step analyze_error_energy_step analyze_error_force_step
    basis biasweights_max biasweights_min bond_threshold calculate_final_force calculate_forces calculate_hessian
    calculate_stress charge_error_threshold charge_fraction charge_group charge_grouping_by_structure
    charge_update_scaling check_forces check_input_forces cutoff_vdw data_clustering debug_mode detailed_timing
    detailed_timing_epoch dynamic_force_grouping electrostatic_type element_activation_electrostatic
    element_activation_pair element_hidden_layers_electrostatic element_hidden_layers_pair element_nodes_electrostatic
    element_nodes_pair element_symfunction_electrostatic energy_fraction energy_threshold
    enforce_max_num_neighbors_atomic enforce_totcharge environment_analysis epochs ewald_alpha ewald_cutoff ewald_kmax
    ewald_prec find_contradictions fitmode fitting_unit fix_weights fixed_charge fixed_gausswidth
    fixed_short_energy_error_threshold fixed_short_force_error_threshold force_fraction force_grouping_by_structure
    force_threshold force_update_scaling force_weight global_activation_charge global_activation_electrostatic
    global_activation_pair global_hidden_layers_charge global_hidden_layers_electrostatic global_hidden_layers_pair
    global_nodes_charge global_nodes_electrostatic global_nodes_pair global_symfunction_electrostatic
    gradient_adam_beta1 gradient_adam_beta2 gradient_adam_epsilon gradient_adam_eta gradient_eta gradient_type
    growth_mode initial_hardness initialization_only ion_forces_only jacobian_mode joint_energy_force_update
    kalman_damp_charge kalman_damp_force kalman_damp_short kalman_epsilon kalman_eta kalman_etamax kalman_etatau
    kalman_lambda_charge kalman_lambda_charge_constraint kalman_lambda_short kalman_nue_charge
    kalman_nue_charge_constraint kalman_nue_short kalman_q0 kalman_qmin kalman_qtau kalman_type main_error_metric
    max_energy max_force md_mode memorize_symfunc_results mix_all_points nblock nguyen_widrow_weights_charge
    nguyen_widrow_weights_ewald nguyen_widrow_weights_short nn_type_elec nn_type_nntb noise_charge noise_energy
    noise_force normalize_data_set optmode_charge optmode_short_energy optmode_short_force parallel_mode
    points_in_memory precondition_weights prepare_md print_all_deshortdw print_all_dfshortdw
    print_all_electrostatic_weights print_all_short_weights print_convergence_vector print_date_and_time
    print_force_components print_mad print_sensitivity random_number_type random_order_training random_seed
    read_kalman_matrices read_unformatted regularize_fit_param remove_atom_energies repeated_energy_update
    reset_kalman restrict_weights rmse_threshold rmse_threshold_charge rmse_threshold_energy rmse_threshold_force
    rmse_threshold_trials rmse_threshold_trials_charge rmse_threshold_trials_energy rmse_threshold_trials_force
    runner_mode save_kalman_matrices scale_max_elec scale_max_short_pair scale_min_elec scale_min_short_pair
    screen_electrostatics selection_mode selection_mode_charge selection_mode_energy selection_mode_force
    separate_bias_ini_short separate_kalman_short short_energy_error_threshold short_energy_fraction
    short_energy_group short_force_error_threshold short_force_fraction short_force_group shuffle_weights_short_atomic
    silent_mode steepest_descent_step_charge steepest_descent_step_energy_short steepest_descent_step_force_short
    symfunction_correlation symfunction_electrostatic task_batch_size_charge task_batch_size_energy
    task_batch_size_force test_fraction total_charge_error_threshold update_single_element update_strategy
    update_worst_charges update_worst_short_energies update_worst_short_forces updater_type use_atom_charges
    use_atom_energies use_charge_constraint use_damping use_ipi use_noisematrix use_old_scaling use_old_weights_charge
    use_old_weights_short use_omp_mkl use_short_forces use_short_nn use_systematic_weights_electrostatic
    use_systematic_weights_short vdw_param vdw_screening weight_analysis weight_constraint weighte_constraint
    weights_max weights_min weightse_max weightse_min write_binding_energy_only write_fit_statistics write_neuronstats
    write_pdb write_pov write_pwscf write_symfunctions write_temporary_weights write_traincharges write_trainforces
    write_trainlog write_trainpoints write_unformatted write_weights_epoch write_xyz
"""
IGNORED = frozenset(_IGNORED.split())


class Input:
    """The lines of input.nn that say something about the model, by keyword.

    Raises:
        FormatError: an unknown keyword, one of a model that is not supported, or one that comes twice.
    """

    def __init__(self, file: Path):
        self.file = file
        self.lines: dict[str, list[Words]] = {}
        reader = TextReader(file, "an input.nn of n2p2")
        while (line := reader.next_or_none()) is not None:
            words = " ".join(line).split("!", 1)[0].split()  # the other sign of a comment
            if words:
                self._add(ALIASES.get(words[0], words[0]), Words(file, line.line, words))

    def _add(self, name: str, line: Words) -> None:
        if name in REFUSED:
            line.refuse(f"a short-range network of the second generation; {REFUSED[name]} are not supported")
        if name in KINDS and line[1:].words[:1] not in [[value] for value in KINDS[name]]:
            line.refuse(f"`{name} {KINDS[name][0]}`, a short-range network of the second generation")
        if name in SINGLE + REPEATED:
            if name in self.lines and name in SINGLE:
                line.refuse(f"`{name}` once")
            self.lines.setdefault(name, []).append(line)
        elif name not in IGNORED and name not in KINDS:
            line.refuse(f"a keyword of n2p2 or RuNNer, not `{name}`")

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.lines

    def all(self, keyword: str) -> list[Words]:
        return self.lines.get(keyword, [])

    def one(self, keyword: str) -> Words:
        if keyword not in self.lines:
            raise FormatError(self.file, None, f"expected the keyword `{keyword}`; it is missing.")
        return self.lines[keyword][0]

    def number(self, keyword: str, default: float) -> float:
        return self.one(keyword).expect_float(1, f"`{keyword} <number>`") if keyword in self else default

    def species(self) -> tuple[int, ...]:
        """The atomic numbers, growing."""
        symbols = self.one("elements")
        count = self.one("number_of_elements").expect_int(1, "`number_of_elements <n>`", 1, 118)
        numbers = tuple(sorted({element(symbols, k) for k in range(1, len(symbols))}))
        if len(symbols) != count + 1 or len(numbers) != count:
            symbols.refuse(f"`elements` with {count} different symbols")
        return numbers


def element(line: Words, k: int, species: tuple[int, ...] = ()) -> int:
    """Return the atomic number of the symbol that is word k; one of `species`, if there are any."""
    z = atomic_numbers.get(line[k] if k < len(line) else "", 0)
    if not z or (species and z not in species):
        line.refuse(f"the symbol of an element{' of the model' if species else ''} (word {k + 1})")
    return z


def networks(text: Input, species: tuple[int, ...]) -> tuple[tuple[tuple, ...], tuple[tuple, ...]]:
    """Return the sizes of the hidden layers and the activations of every element.

    Overrides: `element_hidden_layers_short El n`; `element_nodes_short El n1 n2 ...` of n2p2, or of RuNNer and older
    n2p2 `element_nodes_short El layer n`, which is meant where the first of two numbers is a layer and not larger than
    2; `element_activation_short El t t l`.
    """
    depth: dict[int, int] = {}
    common = "global_hidden_layers_short"
    default = text.one(common).expect_int(1, "number of hidden layers", 0, 100) if common in text else None
    for line in text.all("element_hidden_layers_short"):
        z = element(line, 1, species)
        if z in depth:
            line.refuse(f"the layers of {line[1]} once")
        depth[z] = line.expect_int(2, "number of hidden layers", 0, 100)
    nodes: dict[int, list[int]] = {}
    letters: dict[int, tuple[str, ...]] = {}
    for z in species:
        depth.setdefault(z, -1 if default is None else default)
        if depth[z] != default:
            continue
        if "global_nodes_short" in text or default == 0:
            nodes[z] = _sizes(text.one("global_nodes_short"), 1, default) if default else []
        if "global_activation_short" in text:
            letters[z] = _letters(text.one("global_activation_short"), 1, default)
    given: set[tuple] = set()
    for line in text.all("element_nodes_short"):
        z = element(line, 1, species)
        single = len(line) == 4 and (depth[z] != 2 or line[2] in ("1", "2"))
        layer = line.expect_int(2, "a hidden layer", 1, max(depth[z], 1)) if single else 0
        if (z, layer) in given:
            line.refuse(f"the nodes of {line[1]} once")
        given.add((z, layer))
        if single:
            nodes.setdefault(z, [0] * depth[z])[layer - 1 : layer] = _sizes(line, 3, 1)
        else:
            nodes[z] = _sizes(line, 2, depth[z])
    for line in text.all("element_activation_short"):
        z = element(line, 1, species)
        if (z, "activation") in given:
            line.refuse(f"the activations of {line[1]} once")
        given.add((z, "activation"))
        letters[z] = _letters(line, 2, depth[z])
    for z in species:
        if len(nodes.setdefault(z, [])) != depth[z] or 0 in nodes[z] or z not in letters:
            what = f"expected the hidden layers, nodes and activations of {chemical_symbols[z]}; some are missing."
            raise FormatError(text.file, None, what)
    return tuple(tuple(nodes[z]) for z in species), tuple(letters[z] for z in species)


def _sizes(line: Words, start: int, count: int) -> list[int]:
    if len(line) != start + count:
        line.refuse(f"the sizes of {count} hidden layer(s)")
    return [line.expect_int(k, "the size of a layer", 1, 10000) for k in range(start, start + count)]


def _letters(line: Words, start: int, layers: int) -> tuple[str, ...]:
    letters = tuple(line[start:])
    if len(letters) != layers + 1 or not set(letters) <= set("ltsprgcSeh"):
        line.refuse(f"{layers + 1} letters of ltsprgcSeh, the activations of {layers} hidden layer(s) and the output")
    return letters
