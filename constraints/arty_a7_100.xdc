# SPDX-License-Identifier: Apache-2.0
# Digilent Arty A7-100: pins and clock of rackgate_boards.arty. Untested: nobody has run Vivado with it.
set_property -dict {PACKAGE_PIN E3 IOSTANDARD LVCMOS33} [get_ports clk100]
set_property -dict {PACKAGE_PIN C2 IOSTANDARD LVCMOS33} [get_ports ck_rst]
set_property -dict {PACKAGE_PIN A9 IOSTANDARD LVCMOS33} [get_ports uart_txd_in]
set_property -dict {PACKAGE_PIN D10 IOSTANDARD LVCMOS33} [get_ports uart_rxd_out]
create_clock -name clk100 -period 10.000 [get_ports clk100]
set_false_path -from [get_ports {ck_rst uart_txd_in}]
set_false_path -to [get_ports uart_rxd_out]
set_property CFGBVS VCCO [current_design]
set_property CONFIG_VOLTAGE 3.3 [current_design]
